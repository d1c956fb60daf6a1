"""Docker command lines in the order of a session. Each session has its own containers.

A session is run against Docker's daemon and against ours, and after every line exit status, output and complaints
are compared. Lines are for sh(1); `docker` in them is the real client, $SIDE is a name for the side and this run alone.

Where something happens beside the client, a line waits until it has, in a loop: the two sides are not equally quick.
"""

from __future__ import annotations

# Where ours complains in other words than Docker's daemon 20.10, of the same mistake and with the same status.
OTHER_WORDS = frozenset(
    """
        docker run --rm --cap-add NOSUCH busybox:1 true
        docker exec life2 true
        docker ps --filter before=nosuch -q
        docker top look --nosuch
        docker create --log-driver nosuch busybox:1 true
        docker create --pid container:nosuch busybox:1 true
        docker create --security-opt nosuch=1 busybox:1 true
        docker cp -q $(cat /tmp/labctr-cp-$SIDE)/dir cp:/file
        docker cp -q $(cat /tmp/labctr-cp-$SIDE)/file cp:/nosuch/
        tar -C $(cat /tmp/labctr-cp-$SIDE) -c dir | docker cp - cp:/file
        docker cp cp2:/etc/passwd/x -
    """.strip().split("\n        ")
)

# What ours refuses and Docker's daemon takes, or complains of later: (status, what it says).
REFUSED = {
    "docker create -h 'bad_host name' busybox:1 true": (1, "invalid hostname format"),
    "docker create --ipc nosuch busybox:1 true": (1, "invalid IPC mode: nosuch"),
}

SESSIONS: dict[str, str] = {
    "run": """
        docker run --rm busybox:1 echo hi
        docker run --rm busybox:1 sh -c 'echo out; echo err >&2; exit 3'
        echo hi | docker run --rm -i busybox:1 cat
        echo hi | docker run --rm busybox:1 cat
        printf 'one\\ntwo\\n' | docker run --rm -i busybox:1 sh -c 'read a; echo "$a"; cat; exit 7'
        docker run --rm busybox:1 nosuch
        docker run --rm busybox:1 /bin/plain
        docker run --rm busybox:1 /etc
        docker run --rm nosuch:1 true 2>/dev/null
        docker run --rm -w /tmp busybox:1 pwd
        docker run --rm -u student busybox:1 id -un
        docker run --rm -u nosuch busybox:1 id
        docker run --rm -e A=b -e 'C=d e' busybox:1 sh -c 'echo $A,$C'
        docker run --rm --entrypoint echo busybox:1 entry
        docker run --rm -h box busybox:1 hostname
        docker run --rm --read-only busybox:1 touch /x
        docker run --rm --network none busybox:1 ip -o link show up
        docker run --rm --tmpfs /t:size=1m busybox:1 df -m /t
        docker run --rm --cpus 0.5 --memory 64m busybox:1 true
        docker run --rm --memory 1m busybox:1 true
        docker run --rm --ulimit nofile=64:128 busybox:1 sh -c 'ulimit -n; ulimit -Hn'
        docker run --rm --init busybox:1 sh -c 'cat /proc/1/comm'
        docker run --rm --add-host x:10.9.8.7 busybox:1 grep x /etc/hosts
        docker run --rm --dns 10.9.8.7 --dns-search example.org busybox:1 cat /etc/resolv.conf | sort
        docker run --rm --cap-drop ALL busybox:1 grep CapEff /proc/self/status
        docker run --rm --cap-add NOSUCH busybox:1 true
        docker run --rm --sysctl net.ipv4.ip_forward=1 busybox:1 cat /proc/sys/net/ipv4/ip_forward
        docker run --rm -a stdout busybox:1 sh -c 'echo out; echo err >&2'
        docker run --rm -a stderr busybox:1 sh -c 'echo out; echo err >&2'
        docker run --rm --stop-signal NOSUCH busybox:1 true
        docker run --rm --restart always busybox:1 true
        docker run --network nosuch --name run-lost busybox:1 true
        docker rm run-lost
        docker run --name run-status busybox:1 sh -c 'exit 9'
        docker inspect -f '{{.State.ExitCode}} {{.State.Status}} {{.Config.Cmd}}' run-status
        docker start -a run-status
        docker rm run-status
        docker run --rm -t busybox:1 sh -c 'echo out; echo err >&2; stty size >/dev/null && tty'
        docker run --rm --label a=b --name run-x busybox:1 true
        docker run --rm --oom-score-adj 200 busybox:1 cat /proc/self/oom_score_adj
        docker run --rm --group-add 1234 busybox:1 id -G
        docker run --rm --device /dev/null:/dev/mynull busybox:1 ls -l /dev/mynull
        docker run --rm --security-opt no-new-privileges busybox:1 grep NoNewPrivs /proc/self/status
        docker run --rm --pids-limit 20 busybox:1 true
        docker run --rm --shm-size 1m busybox:1 df -m /dev/shm
        docker run --rm --link nosuch busybox:1 true
        docker run --rm -i busybox:1 sh -c 'read x || echo eof' </dev/null
        docker run --rm --entrypoint '' busybox:1 echo x
        docker run --rm --entrypoint '' busybox:1
        docker run --rm busybox:1 ''
        docker run --rm -u 4294967296 busybox:1 true
        docker run --rm -h foo --domainname bar.org busybox:1 hostname -f
        docker run --rm --cgroup-parent /labctr-$SIDE busybox:1 grep -c labctr-$SIDE /proc/self/cgroup
        rmdir /sys/fs/cgroup/labctr-$SIDE /sys/fs/cgroup/*/labctr-$SIDE 2>/dev/null; true
        docker run --rm --mount type=npipe,source=a,target=/a busybox:1 true
        docker run --rm --runtime nosuch busybox:1 true
        docker run --rm --isolation hyperv busybox:1 true
        docker run --rm --storage-opt size=1G busybox:1 true
        docker run --rm --cpuset-cpus a busybox:1 true
        docker run --rm --cpus 0.5 --cpu-quota 10000 busybox:1 true
        docker run --rm -v bad/name:/x busybox:1 true
        docker run -d --name run-joined --ipc shareable -e A=b busybox:1 sleep 1000 >/dev/null
        docker run --rm --net container:run-joined busybox:1 hostname
        docker create --name run-joins --net container:run-joined --pid container:run-joined busybox:1 hostname
        docker inspect -f '{{.HostConfig.NetworkMode}} {{.HostConfig.PidMode}} {{json .Config.Env}}' run-joins
        docker rename run-joined run-joined2; docker start -a run-joins
        docker stop -t 0 run-joined2; docker start run-joins; docker run --rm --pid container:run-joined2 busybox:1 true
        docker run --rm --ipc container:run-joined2 busybox:1 true
        docker rm run-joined2 run-joins
    """,
    "life": """
        docker create --name life busybox:1 sleep 1000
        docker ps -a --filter name=life --format '{{.Names}} {{.State}} {{.Status}} {{.Command}} {{.Image}}'
        docker start life
        docker start life
        docker ps --filter name=life --format '{{.Names}} {{.State}}'
        docker inspect -f '{{.State.Running}} {{.State.Status}}' life
        docker create --name life busybox:1
        docker rename life life2
        docker rename life2 life2
        docker rename nosuch life3
        docker create --name life3 busybox:1 >/dev/null; docker rename life3 life2; docker rename life3 'b d'
        docker rm life3
        docker kill nosuch
        docker pause life2
        docker pause life2
        docker exec life2 true
        docker ps --filter name=life2 --format '{{.State}} {{.Status}}' | sed 's/Up.*(/Up (/'
        docker attach life2
        docker unpause life2
        docker unpause life2
        docker rm life2
        docker kill -s USR1 life2
        docker kill -s NOSUCH life2
        docker kill life2
        docker wait life2
        docker kill life2
        docker stop life2
        docker pause life2
        docker top life2
        docker exec life2 true
        docker attach life2
        docker restart -t 0 life2
        docker restart -t 0 life2
        docker stop -t 0 life2
        docker inspect -f '{{.State.ExitCode}}' life2
        docker rm life2
        docker rm life2
        docker rm -f life2
        docker stop life2
        docker start life2
        docker wait life2
        docker logs life2
        docker inspect life2
        docker run -d --name life4 busybox:1 sleep 1000 >/dev/null
        docker rm -f life4
        docker run -d --rm --name life5 busybox:1 sleep 1000 >/dev/null
        docker stop -t 0 life5
        while docker inspect life5 >/dev/null 2>&1; do sleep 0.1; done; docker inspect life5
        docker run -d --name life6 busybox:1 sh -c 'trap "exit 4" TERM; echo set; while :; do sleep 1; done' >/dev/null
        until docker logs life6 | grep set; do sleep 0.1; done; docker stop -t 60 life6; docker wait life6
        docker rm life6
    """,
    "logs": """
        docker run --name logs busybox:1 sh -c 'echo one; sleep 0.1; echo two >&2; sleep 0.1; echo three; printf four'
        docker logs logs
        docker logs logs 2>/dev/null
        docker logs --tail 1 logs
        docker logs --tail 0 logs
        docker logs -n 2 logs
        docker logs --tail all logs
        docker logs -f logs
        docker logs -t logs 2>&1 | sed 's/^[0-9T:.-]*Z /TIME /' | sort  # the two pipes are read in any order
        docker logs --details logs
        docker logs --since 1h logs
        docker logs --until 1h logs
        docker logs --since 2001-01-01T00:00:00Z logs
        docker logs --since nonsense logs
        docker rm logs
        docker run -d --name logs2 busybox:1 sh -c 'for i in 1 2 3; do echo $i; sleep 0.2; done' >/dev/null
        docker logs -f logs2
        docker rm logs2
        docker run -t --name logs3 busybox:1 sh -c 'echo tty; echo err >&2'
        docker logs logs3
        docker rm logs3
        docker run --name logs4 --log-driver none busybox:1 echo shown
        docker logs logs4
        docker rm logs4
        docker create --name logs5 --log-opt labels=a,b --log-opt env=X -l a=1 -l b='x y' -e X=Y busybox:1 echo hi
        docker start -a logs5
        docker logs --details logs5; docker rm logs5
        docker run --name logs6 --log-driver local busybox:1 echo hi; docker logs logs6; docker rm logs6
    """,
    "exec": """
        docker run -d --name exec -e FROM=run busybox:1 sleep 1000 >/dev/null
        docker exec exec echo hi
        docker exec exec sh -c 'echo out; echo err >&2; exit 5'
        echo in | docker exec -i exec cat
        echo in | docker exec exec cat
        docker exec -w /tmp exec pwd
        docker exec -u student exec id -un
        docker exec -u nosuch exec id
        docker exec -e A=b exec sh -c 'echo $A $FROM'
        docker exec exec nosuch
        docker exec exec /bin/plain
        docker exec -w /nosuch exec pwd
        docker exec -d exec touch /done
        until docker exec exec ls /done 2>/dev/null; do sleep 0.1; done
        docker exec -t exec sh -c 'tty; echo x'
        docker exec nosuch true
        docker exec exec
        head -c 300000 /dev/zero | docker exec -i exec wc -c
        docker exec exec sh -c 'head -c 300000 /dev/zero' | wc -c
        docker exec exec sh -c 'kill -9 $$'
        docker pause exec; docker exec exec true; docker unpause exec
        docker rm -f exec
    """,
    "cp": """
        docker create --name cp busybox:1 sleep 1000
        d=/tmp/labctr-cp-$$; mkdir -p $d/dir/sub; echo $d >/tmp/labctr-cp-$SIDE
        cd $(cat /tmp/labctr-cp-$SIDE); echo file >file; echo inner >dir/sub/x
        docker cp $(cat /tmp/labctr-cp-$SIDE)/file cp:/file
        docker cp -q $(cat /tmp/labctr-cp-$SIDE)/file cp:/tmp
        docker cp -q $(cat /tmp/labctr-cp-$SIDE)/file cp:/nosuch/x
        docker cp -q $(cat /tmp/labctr-cp-$SIDE)/file cp:/nosuch/
        docker cp -q $(cat /tmp/labctr-cp-$SIDE)/dir cp:/new
        docker cp -q $(cat /tmp/labctr-cp-$SIDE)/dir cp:/new
        docker cp -q $(cat /tmp/labctr-cp-$SIDE)/dir/. cp:/new2
        docker cp -q $(cat /tmp/labctr-cp-$SIDE)/dir cp:/file
        docker cp cp:/file - | tar t
        docker cp cp:/new - | tar t | sort
        docker cp cp:/new/. - | tar t | sort
        docker cp cp:/nosuch - | tar t
        docker cp cp:/bin/sh - | tar tv | awk '{print $1, $6, $7, $8}'
        docker cp -L cp:/bin/sh - | tar tv | awk '{print $1, $6}'
        tar -C $(cat /tmp/labctr-cp-$SIDE) -c dir | docker cp - cp:/tmp
        tar -C $(cat /tmp/labctr-cp-$SIDE) -c dir | docker cp - cp:/file
        docker cp -q cp:/tmp/dir $(cat /tmp/labctr-cp-$SIDE)/back
        find $(cat /tmp/labctr-cp-$SIDE)/back | sed 's,.*/back,,' | sort
        docker cp -q cp:/etc/passwd $(cat /tmp/labctr-cp-$SIDE)/back/
        cat $(cat /tmp/labctr-cp-$SIDE)/back/passwd
        docker cp nosuch:/x -
        docker diff cp | sort
        docker start cp >/dev/null; docker cp cp:/proc/version - | tar t; docker kill cp; docker wait cp
        docker create --name cp2 --read-only -v cp-data:/data -v $(cat /tmp/labctr-cp-$SIDE)/file:/f busybox:1 top
        docker start cp2
        docker exec cp2 sh -c 'mkdir /data/d; ln -s /data/d /data/l'; docker cp cp2:/data/l/ - | tar t
        docker cp cp2:/f - | tar xO; docker cp cp2:/etc/hosts - | tar xO | head -1
        docker cp cp2:/etc/passwd/x -
        docker cp -q $(cat /tmp/labctr-cp-$SIDE)/file cp2:/x
        docker cp -q $(cat /tmp/labctr-cp-$SIDE)/file cp2:/data/x; docker exec cp2 cat /data/x
        docker rm -fv cp2; docker volume rm cp-data
        docker rm cp
        rm -r $(cat /tmp/labctr-cp-$SIDE) /tmp/labctr-cp-$SIDE
    """,
    "look": """
        docker run -d --name look -p 127.0.0.1::80 -l a=b -l c=d -v look-data:/data busybox:1 sleep 1000 >/dev/null
        docker ps --filter name=look --format '{{.Names}} {{.Image}} {{.Command}} {{.Label "a"}} {{.Label "c"}}'
        docker ps --filter name=look --format '{{.Mounts}} {{.Networks}} {{.LocalVolumes}}'
        docker ps -q --filter name=look | wc -l
        docker ps --no-trunc -q --filter name=look | wc -c
        docker ps --filter label=a=b --format '{{.Names}}'
        docker ps --filter label=a=x --format '{{.Names}}'
        docker ps --filter volume=look-data --format '{{.Names}}'
        docker ps --filter status=running --filter name=look --format '{{.Names}}'
        docker ps --filter status=nosuch
        docker ps --filter nosuch=x
        docker ps --filter ancestor=busybox:1 --filter name=look --format '{{.Names}}'
        docker ps --filter name=look --format '{{.Ports}}' | sed 's/:[0-9]*->/:N->/'
        docker ps -a --filter exited=77 -q
        docker ps --filter since=look -q
        docker ps --filter before=nosuch -q
        docker ps -s --filter name=look --format '{{.Size}}'
        docker port look | sed 's/:[0-9]*$/:N/'
        docker port look 80 | sed 's/:[0-9]*$/:N/'
        docker port look 81
        docker port nosuch
        docker top look -o pid,comm | awk '{print $2}'
        docker top look aux | awk '{print $11, $12}'
        docker top look --nosuch
        docker inspect -f '{{json .Mounts}}' look
        docker inspect -f '{{json .HostConfig.PortBindings}}' look
        docker inspect -f '{{.Name}} {{.Path}} {{json .Args}} {{.Driver}} {{.Platform}} {{.RestartCount}}' look
        docker inspect -s -f '{{.SizeRw}}' look
        docker inspect nosuch
        docker inspect --type container busybox:1
        docker diff look
        docker exec look sh -c 'echo x > /new; rm /etc/group; mkdir /dir; touch /dir/f; chmod 600 /etc/passwd'
        docker diff look | sort
        docker export look | tar t | sort | head -20
        until docker stats --no-stream --format '{{.Name}} {{.PIDs}}' look | grep look; do :; done  # it waits for 2 s
        docker stats --no-stream --format '{{.Name}}' nosuch
        docker update --memory 100m --memory-swap 200m look
        docker inspect -f '{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}}' look
        docker update --restart on-failure:3 look
        docker inspect -f '{{json .HostConfig.RestartPolicy}}' look
        docker update --memory 1m look
        docker update look
        docker update --cpus 0.5 --pids-limit 50 look
        docker update --cpu-quota 5000 look
        docker commit -m message -c 'CMD ["true"]' look look-image:1
        docker inspect -f '{{json .Config.Cmd}} {{.Comment}}' look-image:1
        docker rm -fv look
        docker rmi look-image:1 >/dev/null
        docker volume rm look-data
        docker ps -aq --filter name=look
    """,
    "tutorial": """
        docker create --name tutorial0 busybox:1 true >/dev/null; docker export tutorial0 >/tmp/labctr-base-$SIDE.tar
        docker rm tutorial0
        docker import /tmp/labctr-base-$SIDE.tar lab:base | wc -c
        docker images lab --format '{{.Repository}}:{{.Tag}} {{.Size}}'
        docker run --name tutorial lab:base sh -c 'mkdir -p /srv; echo hello >/srv/index.html'
        docker diff tutorial
        docker commit -c 'CMD ["cat", "/srv/index.html"]' tutorial lab:web | wc -c
        docker run --rm lab:web
        docker history lab:web --format '{{.CreatedBy}} {{.Size}}'
        mkdir /tmp/labctr-lab-$SIDE; echo 'FROM lab:web' >/tmp/labctr-lab-$SIDE/Dockerfile
        echo 'RUN echo more >>/srv/index.html' >>/tmp/labctr-lab-$SIDE/Dockerfile
        echo 'ENV A=b' >>/tmp/labctr-lab-$SIDE/Dockerfile
        echo 'EXPOSE 80' >>/tmp/labctr-lab-$SIDE/Dockerfile
        docker build -q -t lab:built /tmp/labctr-lab-$SIDE | wc -c
        docker run --rm lab:built
        docker inspect -f '{{json .Config.Env}} {{json .Config.ExposedPorts}} {{json .Config.Cmd}}' lab:built
        docker inspect -f '{{len .RootFS.Layers}} {{.Os}}' lab:built
        docker run -d --name tutorial2 lab:built sleep 1000 >/dev/null; docker exec tutorial2 cat /srv/index.html
        docker rm -f tutorial tutorial2
        docker tag lab:built lab:other
        docker rmi lab:other
        docker rmi nosuch:1
        docker rmi -f lab:built lab:web lab:base >/dev/null
        docker images -q lab
        rm -r /tmp/labctr-lab-$SIDE /tmp/labctr-base-$SIDE.tar
    """,
    "events": """
        echo "--since $(date +%s.%N) --until 0s" >/tmp/ev-$SIDE
        docker run --name events -l of=it busybox:1 true
        docker exec events true
        docker rename events events2
        docker rm events2
        docker run --rm -d --name events3 busybox:1 sleep 1000 >/dev/null; docker pause events3; docker unpause events3
        docker exec events3 true; until docker events $(cat /tmp/ev-$SIDE) -f event=exec_die | grep -q .; do :; done
        docker kill events3; until docker events $(cat /tmp/ev-$SIDE) -f event=destroy | grep -q events3; do :; done
        docker events $(cat /tmp/ev-$SIDE) -f container=events3 --format '{{.Action}}'
        docker events $(cat /tmp/ev-$SIDE) -f label=of=it --format '{{.Action}}'
        docker events $(cat /tmp/ev-$SIDE) -f label=of=it -f event=die --format '{{.Actor}}'
        docker events --since nonsense --until 1s
        rm /tmp/ev-$SIDE
    """,
    "prune": """
        docker create --name prune1 --label prune=1 busybox:1 true >/dev/null
        docker create --name prune2 --label prune=2 busybox:1 true >/dev/null
        docker container prune -f --filter label=prune=1
        docker ps -a --filter label=prune --format '{{.Names}}'
        docker container prune -f --filter until=1h --filter label=prune
        docker container prune -f --filter nosuch=1
        docker container prune -f --filter label=prune
        docker container prune -f --filter label=prune
    """,
    "wait": """
        docker run -d --name wait busybox:1 sh -c 'sleep 0.5; exit 6' >/dev/null
        docker wait wait
        docker wait wait wait
        docker start wait >/dev/null; docker wait wait
        docker wait nosuch
        docker rm wait
        docker run -d --name wait2 --restart on-failure:2 busybox:1 false >/dev/null
        until docker inspect -f '{{.RestartCount}} {{.State.Status}}' wait2 | grep '2 exited'; do sleep 0.1; done
        docker inspect -f '{{.State.ExitCode}}' wait2
        docker rm wait2
    """,
    "create": """
        docker create --name x busybox:1
        docker create --name bad/name busybox:1
        docker create busybox:1 && docker rm $(docker ps -lq) >/dev/null
        docker create nosuch:1 2>/dev/null
        docker create --memory 1m busybox:1 true
        docker create -v relative:/x:bad busybox:1 true
        docker create -v /a:/b -v /c:/b busybox:1 true
        docker create --mount type=bind,source=/nosuch-dir,target=/x busybox:1 true
        docker create --mount type=bind,source=rel,target=/x busybox:1 true
        docker create -p 80:80:80:80 busybox:1 true
        docker create -p 99999:80 busybox:1 true
        docker create --network container:nosuch busybox:1 true
        docker create --restart sometimes busybox:1 true
        docker create --cpus 99 busybox:1 true
        docker create --cpuset-cpus 77 busybox:1 true
        docker create --ip 10.0.0.9 busybox:1 true && docker rm $(docker ps -lq) >/dev/null
        docker create -h 'bad_host name' busybox:1 true
        docker create -w relative busybox:1 true
        docker create --volumes-from nosuch busybox:1 true
        docker create --log-driver nosuch busybox:1 true
        docker create --ipc nosuch busybox:1 true
        docker create --pid container:nosuch busybox:1 true
        docker create --security-opt nosuch=1 busybox:1 true
        docker create --memory-swap 10m busybox:1 true
        docker create --memory-reservation 1m busybox:1 true
        docker create --oom-score-adj 9999 busybox:1 true
        docker create --ulimit nosuch=1 busybox:1 true
    """,
    "images": """
        docker tag busybox:1 images:1; docker tag busybox:1 images:2; docker tag busybox:1 images/other:1
        docker images images:1 --format '{{.Repository}}:{{.Tag}}'
        docker images images --format '{{.Repository}}:{{.Tag}}' | sort
        docker images -f reference='images*' -f reference=busybox --format '{{.Repository}}:{{.Tag}}' | sort
        docker rmi images:1 images:2 images/other:1 nosuch
        docker push nosuch
        docker search --limit 200 x
        docker search -f nosuch=1 x
        docker run --name images busybox:1 true; docker commit -c 'NOSUCH x' images; docker commit -c 'RUN x' images
        docker rm images
    """,
    "build": """
        d=/tmp/labctr-build-$SIDE; mkdir -p $d/sub; echo a >$d/a; echo b >$d/sub/b
        printf 'FROM busybox:1\\nCOPY a /y\\n' | docker build -q -f - /tmp/labctr-build-$SIDE 2>&1 | cut -c1-6
        printf 'FROM busybox:1\\nCOPY nosuch /\\n' | docker build - 2>&1 | tail -1
        printf 'FROM busybox:1\\nCOPY nosuch* /\\n' | docker build -f - /tmp/labctr-build-$SIDE 2>&1 | tail -1
        printf 'FROM busybox:1\\nCOPY ../x /\\n' | docker build -f - /tmp/labctr-build-$SIDE 2>&1 | tail -1
        printf 'FROM busybox:1\\nCOPY --from=5 /x /\\n' | docker build - 2>&1 | tail -1
        printf 'FROM busybox:1\\nCOPY --nosuch a /\\n' | docker build - 2>&1 | tail -1
        printf 'FROM busybox:1\\nnosuch x\\n' | docker build - 2>&1 | tail -1
        printf 'FROM busybox:1\\nHEALTHCHECK FOO true\\n' | docker build - 2>&1 | tail -1
        printf 'FROM busybox:1\\nUSER nosuch\\nRUN id\\n' | docker build - 2>&1 | tail -1
        printf 'FROM scratch\\n' | docker build - 2>&1 | tail -1
        printf 'ARG X=busybox:1\\nFROM $X\\nRUN echo "[$X]"\\n' | docker build - 2>/dev/null | grep -e Step -e '^[[]'
        printf 'FROM busybox:1\\nCMD\\nENTRYPOINT\\n' | docker build -q -t lines - >/dev/null 2>&1
        docker inspect -f '{{json .Config.Cmd}} {{json .Config.Entrypoint}}' lines
        printf 'FROM busybox:1\\nENV Q=1\\nVOLUME /q\\n' | docker build -q -t lines - >/dev/null 2>&1
        docker run --rm lines env | grep Q; docker run --rm -e Z=1 lines env | grep -e Q -e Z
        docker create --name build -v /z -e Z=1 lines >/dev/null; docker inspect -f '{{json .Config.Env}}' build
        docker inspect -f '{{json .Config.Volumes}} {{len .Mounts}}' build; docker rm -v build
        docker create --name build lines >/dev/null; docker inspect -f '{{json .Config.Env}}' build; docker rm -v build
        cd /tmp/labctr-build-$SIDE; printf 'FROM busybox:1\\nRUN cat /proc/self/cgroup\\n' >Dockerfile
        cd /tmp/labctr-build-$SIDE; docker build --cgroup-parent /labctr-$SIDE --no-cache . | grep -c :/labctr
        rmdir /sys/fs/cgroup/labctr-$SIDE /sys/fs/cgroup/*/labctr-$SIDE 2>/dev/null; true
        printf 'FROM busybox:1\\n' | docker build --platform nosuch - 2>&1 | tail -1
        printf 'FROM busybox:1\\n' | docker build --isolation hyperv - 2>&1 | tail -1
        printf 'FROM busybox:1\\n' | docker build --security-opt seccomp=unconfined - 2>&1 | tail -1
        docker rmi -f lines >/dev/null; rm -r /tmp/labctr-build-$SIDE
    """,
}

LIFE = """
    docker create --name aged --memory 64m busybox:1 sh -c 'echo out; exec sleep 1000' >/dev/null; docker start aged
    docker exec aged echo in; docker exec -d aged true; until docker logs aged | grep .; do :; done
    docker stop -t 0 aged; docker wait aged
    docker inspect -f '{{.HostConfig.IpcMode}} {{.HostConfig.Memory}} {{.State.Status}} {{.Config.Env}}' aged
    docker commit aged versioned >/dev/null; docker rm aged; docker create --name aged versioned echo again >/dev/null
    docker start -a aged 2>/dev/null; docker rm aged  # where it waits, the command complains in 1.24 of its own haste
    printf 'FROM versioned\\nRUN echo built\\nLABEL a=b' | docker build -t versioned:2 - >/dev/null
    docker images --format '{{.Repository}}:{{.Tag}}' | sort  # some may be of one second
    docker rmi versioned:2 versioned | wc -l; docker volume create versioned; docker volume rm versioned
    docker run -d --name aged --network none --health-cmd true busybox:1 sleep 1000 >/dev/null 2>&1; docker rm -f aged
    docker version --format '{{.Client.APIVersion}}'; docker info --format '{{.Driver}}'; docker system df | wc -l
"""
"""Lines with the same result in every version of the API that the docker command can use."""
