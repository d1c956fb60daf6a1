# Run by sh in a container: everything about it that keeps it from the machine, a line each.
grep -E '^(Cap|Seccomp|NoNewPrivs|Groups|Uid|Gid|Umask)' /proc/self/status
echo "oom_score_adj $(cat /proc/self/oom_score_adj)"
echo "umask $(umask)"
sed 's/^/limit: /' /proc/self/limits
sed 's/^/uid_map: /' /proc/self/uid_map
sed 's/^/gid_map: /' /proc/self/gid_map
echo "hostname $(hostname) domain $(cat /proc/sys/kernel/domainname)"
echo "environment $(env | grep -v -e '^_=' -e SHLVL | sort | tr '\n' ' ')"
echo "stdin $(readlink /proc/self/fd/0)"
for fd in 3 4 5 6 7 8 9 10 11 12; do test -e "/proc/$$/fd/$fd" && readlink "/proc/$$/fd/$fd"; done
find /dev -not -path '/dev/pts/[0-9]*' -exec stat -c 'device: %n %F %a %u:%g %t,%T' {} \;
sed -E 's/^[0-9]+ [0-9]+ [0-9]+:[0-9]+ /mount: /' /proc/self/mountinfo
sed 's/^/cgroup: /' /proc/self/cgroup
for file in net/ipv4/ping_group_range net/ipv4/ip_unprivileged_port_start net/ipv4/ip_forward kernel/shmmax; do
    echo "$file $(cat /proc/sys/$file)"
done
stat -c '%n %F %a %u:%g' / /.dockerenv /etc /etc/* /proc/kcore /proc/keys /proc/timer_list
echo "masked: $(cat /proc/keys /proc/timer_list | wc -c) $(ls /sys/firmware /proc/acpi | tr '\n' ' ')"
cat /etc/hosts /etc/hostname
{
    echo 1 > /proc/sys/kernel/panic
    echo 1 > /sys/kernel/uevent_seqnum
    mkdir /sys/fs/cgroup/memory/mine
    mount -t tmpfs none /tmp
    mount -o remount,rw /sys
    umount /proc/keys
    hostname other
    chroot / true && echo chroot done
    mknod /tmp/disk b 8 0 && cat /tmp/disk
    for device in 1,1 1,11 4,0 5,2 10,200 10,229; do
        mknod "/tmp/$device" c "${device%,*}" "${device#*,}" && cat "/tmp/$device" < /dev/null | head -c 1
    done
    chown 5:5 /tmp/x 2>&1 || touch /tmp/x && chown 5:5 /tmp/x
    ifconfig lo down
    nice -n -5 true
    kill -0 1
} 2>&1 | sed 's/^/attempt: /'
echo "probe complete"
