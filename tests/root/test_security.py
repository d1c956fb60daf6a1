"""The restrictions of a container, seen from inside; tests/compat/test_security.py compares them with Docker's."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from pylab_container import Engine
from pylab_container.engine.container import Container
from pylab_container.errors import Conflict, InvalidInput, LabError
from pylab_container.host import idmap, linux
from pylab_container.images.image import Image
from tests.support.network import free_port, get
from tests.support.waiting import eventually

pytestmark = pytest.mark.shared_engine

DOCKERS_FOURTEEN = "00000000a80425fb"


def run(engine: Engine, image: Image | str, script: str, *, network_mode: str = "none", **options: Any) -> str:
    done = engine.containers.run(image, ["sh", "-c", script], remove=True, network_mode=network_mode, **options)
    assert isinstance(done, bytes)
    return done.decode()


def up(engine: Engine, image: Image | str, script: str = "sleep 1000", **options: Any) -> Container:
    made = engine.containers.run_detached(image, ["sh", "-c", script], network_mode="none", **options)
    assert isinstance(made, Container)
    # It is the runtime for a moment yet; in the end a shell becomes its last command.
    command = Path(f"/proc/{made.pid}/cmdline")
    eventually(lambda: command.read_bytes().startswith((b"sh\0", b"sleep\0")))
    return made


def status(engine: Engine, image: Image, **options: Any) -> dict[str, str]:
    lines = run(engine, image, "cat /proc/self/status", **options).splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


# -- rights ------------------------------------------------------------------------------------


def test_root_has_docker_s_fourteen_capabilities_and_hands_none_down(engine: Engine, image: Image) -> None:
    found = status(engine, image)
    assert found["CapBnd"] == found["CapPrm"] == found["CapEff"] == DOCKERS_FOURTEEN
    assert found["CapInh"] == found["CapAmb"] == "0" * 16


def test_anybody_else_has_none_in_effect(engine: Engine, image: Image) -> None:
    found = status(engine, image, user="student")
    assert found["CapPrm"] == found["CapEff"] == found["CapInh"] == found["CapAmb"] == "0" * 16
    assert found["CapBnd"] == DOCKERS_FOURTEEN


def test_system_calls_are_filtered_and_privileges_can_be_kept_from_growing(engine: Engine, image: Image) -> None:
    found = status(engine, image)
    assert (found["Seccomp"], found["NoNewPrivs"]) == ("2", "0")
    assert status(engine, image, security_opt=["no-new-privileges"])["NoNewPrivs"] == "1"
    assert status(engine, image, security_opt=["seccomp=unconfined"])["Seccomp"] == "0"


def test_exec_has_the_same_fences_as_the_first_process(engine: Engine, image: Image) -> None:
    container = up(engine, image, security_opt=["no-new-privileges"], cap_drop=["CHOWN"])
    names = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")
    script = ["grep", "-E", "|".join(f"^{name}:" for name in names)]
    first = container.exec_run([*script, "/proc/1/status"]).output
    assert container.exec_run([*script, "/proc/self/status"]).output == first
    assert first.count(b"\n") == len(names)


@pytest.mark.parametrize("flags", ["-U", "-m", "-n", "-p -f", "-u", "-i"])
def test_no_namespace_can_be_made(engine: Engine, image: Image, flags: str) -> None:
    assert run(engine, image, f"unshare {flags} true 2>&1 || echo refused").endswith("refused\n")


# -- what is seen ------------------------------------------------------------------------------


def test_the_devices_are_docker_s(engine: Engine, image: Image) -> None:
    listing = run(engine, image, "cd /dev; stat -c '%n %F %a %t,%T' * | grep character; stat -c '%n %a' shm mqueue pts")
    assert sorted(listing.splitlines()) == [
        "full character special file 666 1,7",
        "mqueue 1777",
        "null character special file 666 1,3",
        "pts 755",
        "random character special file 666 1,8",
        "shm 1777",
        "tty character special file 666 5,0",
        "urandom character special file 666 1,9",
        "zero character special file 666 1,5",
    ]


@pytest.mark.parametrize("device", ["b 8 0", "b 254 0", "c 1 1", "c 1 2", "c 1 11", "c 10 229", "c 4 64"])
def test_a_device_that_a_container_makes_cannot_be_opened(engine: Engine, image: Image, device: str) -> None:
    script = f"mknod /device {device} && head -c 1 /device 2>&1 | grep -q 'not permitted' && echo refused"
    assert run(engine, image, script) == "refused\n"


def test_the_kernel_s_own_files_are_hidden_or_read_only(engine: Engine, image: Image) -> None:
    assert run(engine, image, "cat /proc/keys /proc/timer_list; ls -A /sys/firmware") == ""
    lines = [line.split() for line in run(engine, image, "cat /proc/mounts").splitlines()]
    table = {words[1]: words[3].split(",") for words in lines}
    for place in ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"):
        assert "ro" in table[place], place
    for place in ("/proc", "/sys", "/dev/mqueue", "/dev/shm"):
        assert {"nosuid", "nodev", "noexec"} <= set(table[place]), place
    assert "ro" in table["/sys"]
    below = [options for place, options in table.items() if place.startswith("/sys/fs/cgroup/")]
    assert all("ro" in options for options in below or [table["/sys/fs/cgroup"]])


def test_no_mount_of_the_host_is_seen(engine: Engine, image: Image) -> None:
    places = [line.split()[1] for line in run(engine, image, "cat /proc/mounts").splitlines()]
    roots = ("/proc", "/dev", "/sys", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
    assert [place for place in places if place != "/" and not place.startswith(roots)] == []


def test_the_surroundings_of_a_process_are_docker_s(engine: Engine, image: Image) -> None:
    script = "umask; cat /proc/self/oom_score_adj; hostname; cat /proc/sys/kernel/domainname; cat /proc/self/uid_map"
    seen = run(engine, image, script, hostname="box", domainname="lab").split()
    assert seen == ["0022", Path("/proc/self/oom_score_adj").read_text().strip(), "box", "lab", "0", "0", "4294967295"]


def test_a_container_has_a_session_keyring_of_its_own(engine: Engine, image: Image) -> None:
    container = up(engine, image, security_opt=["systempaths=unconfined"])
    assert f"_ses.{container.id}".encode() in container.exec_run(["cat", "/proc/keys"]).output


# -- --userns=remap ----------------------------------------------------------------------------


def test_root_of_a_remapped_container_is_nobody_on_the_machine(engine: Engine, image: Image) -> None:
    ids = idmap.subordinate_ids()
    container = up(engine, image, userns_mode="remap")
    assert container.exec_run(["cat", "/proc/self/uid_map"]).output.split() == [b"0", b"%d" % ids.uid, b"%d" % ids.size]
    assert container.exec_run(["id", "-u"]).output == b"0\n"
    outside = Path(f"/proc/{container.pid}/status").read_text()
    assert f"Uid:\t{ids.uid}\t" in outside
    assert f"Gid:\t{ids.gid}\t" in outside
    assert container.attrs["HostConfig"]["UsernsMode"] == "remap"


def test_files_of_a_remapped_container_stay_on_the_disk_as_they_are(engine: Engine, image: Image) -> None:
    script = (
        "echo a > /a; chown student /a; mkdir /d; rm /bin/plain; rm -r /home; mkdir /home; stat -c %u / /bin /a /home"
    )
    container = up(engine, image, f"({script}) > /seen 2>&1; sleep 1000", userns_mode="remap")
    seen = container.upper / "seen"
    eventually(lambda: seen.read_text().count("\n") == 4, ignoring=(FileNotFoundError,))
    assert seen.read_text().split() == ["0", "0", "1000", "0"]
    assert (container.upper / "a").stat().st_uid == 1000
    assert (container.upper / "d").stat().st_uid == 0
    changes = {change.path: change.letter for change in container.diff()}
    assert {"/a": "A", "/d": "A", "/bin/plain": "D", "/home/student": "D"}.items() <= changes.items()
    committed = container.commit("remapped")
    shown = run(engine, committed, "stat -c '%u %n' /a /d; ls -d /bin/plain /home/* 2> /dev/null; true")
    assert shown == "1000 /a\n0 /d\n"


def test_a_remapped_container_starts_again_and_leaves_nothing(engine: Engine, image: Image) -> None:
    container = up(engine, image, "echo again >> /times; sleep 1000", userns_mode="remap")
    eventually(lambda: container.exec_run(["cat", "/times"]).output == b"again\n")
    container.stop(timeout=0)
    container.start()
    eventually(lambda: container.exec_run(["cat", "/times"]).output == b"again\nagain\n")
    container.remove(force=True)
    assert not (engine.runtime.path / "mapped").exists()
    assert str(engine.runtime.path) not in Path("/proc/self/mountinfo").read_text()


def test_what_a_killed_start_left_mounted_is_in_nobody_s_way(engine: Engine, image: Image) -> None:
    container = engine.containers.create(image, "true", network_mode="none", userns_mode="remap", volumes=["data:/v"])
    volume = engine.data_root / "volumes/data/_data"
    (volume / "kept").touch()
    place = engine.runtime.path / "mapped" / container.id / "0"
    place.mkdir(parents=True)
    for _ in range(2):
        linux.mount(str(volume), str(place), "", linux.MS_BIND)
    container.start()
    assert container.wait() == 0
    container.remove()
    assert not (engine.runtime.path / "mapped").exists()
    assert (volume / "kept").exists()


def test_a_volume_is_the_same_for_a_remapped_container_and_for_others(engine: Engine, image: Image) -> None:
    assert (
        run(engine, image, "echo one > /v/file; stat -c %u /v/file", volumes=["data:/v"], userns_mode="remap") == "0\n"
    )
    assert run(engine, image, "cat /v/file; stat -c %u /v/file; echo two > /v/file", volumes=["data:/v"]) == "one\n0\n"
    assert run(engine, image, "cat /v/file; rm /v/file", volumes=["data:/v"], userns_mode="remap") == "two\n"
    assert list((engine.data_root / "volumes/data/_data").iterdir()) == []


def test_the_host_s_directories_give_a_remapped_root_no_rights(engine: Engine, image: Image, tmp_path: Path) -> None:
    (tmp_path / "host").mkdir(mode=0o755)
    (tmp_path / "host/secret").write_text("secret")
    (tmp_path / "host/secret").chmod(0o600)
    script = "cat /h/secret 2>&1; echo x > /h/new; id -u"
    seen = run(engine, image, script, volumes=[f"{tmp_path}/host:/h"], userns_mode="remap")
    assert "secret\n" not in seen.replace("/h/secret", "")
    assert sorted(os.listdir(tmp_path / "host")) == ["secret"]


def test_devices_and_published_ports_work_in_a_remapped_container(engine: Engine, image: Image) -> None:
    script = "echo x > /dev/nothing && head -c 2 /dev/nuls | wc -c; echo > /dev/full; true"
    devices = ["/dev/null:/dev/nothing", "/dev/zero:/dev/nuls", "/dev/full"]
    seen = run(engine, image, f"({script}) 2>&1", devices=devices, userns_mode="remap")
    assert seen.splitlines()[0] == "2"
    assert "No space left on device" in seen
    port = free_port()
    command = ["sh", "-c", "hostname > /tmp/index.html; exec httpd -f -p 80 -h /tmp"]
    server = engine.containers.run_detached(image, command, userns_mode="remap", ports={"80/tcp": port})
    assert [get(f"{host}:{port}") for host in ("127.0.0.1", "[::1]")] == [server.short_id] * 2


def test_shared_memory_of_a_remapped_container_is_its_own_and_others_may_join(engine: Engine, image: Image) -> None:
    owner = up(engine, image, "echo one > /dev/shm/file; sleep 1000", userns_mode="remap", ipc_mode="shareable")
    eventually(lambda: owner.exec_run(["cat", "/dev/shm/file"]).output == b"one\n")
    assert owner.exec_run(["stat", "-c", "%u", "/dev/shm/file"]).output == b"0\n"
    assert run(engine, image, "cat /dev/shm/file", ipc_mode=f"container:{owner.id}") == "one\n"
    with pytest.raises(Conflict, match="IPC namespace"):
        engine.containers.create(image, "true", userns_mode="remap", ipc_mode=f"container:{owner.id}")


def test_the_network_works_in_a_remapped_container(engine: Engine, image: Image) -> None:
    script = "ip address show eth0 | grep -c inet; echo 1.1.1.1 more >> /etc/hosts && echo written"
    seen = run(engine, image, script, userns_mode="remap", network_mode="bridge")
    assert int(seen.split()[0]) > 0
    assert seen.split()[1] == "written"


@pytest.mark.parametrize("terminal", ["running", "stopped"])
def test_cp_keeps_owners_of_a_remapped_container(engine: Engine, image: Image, terminal: str) -> None:
    container = up(engine, image, "echo a > /a; chown student /a; echo done > /done; sleep 1000", userns_mode="remap")
    eventually((container.upper / "done").exists)
    if terminal == "stopped":
        container.stop(timeout=0)
    with tarfile.open(fileobj=io.BytesIO(b"".join(container.get_archive("/a")[0]))) as archive:
        assert archive.getmember("a").uid == 1000
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, uid in (("new", 0), ("news", 1000)):
            entry = tarfile.TarInfo(f"deep/{name}")
            entry.uid = entry.gid = uid
            archive.addfile(entry)
    container.put_archive("/tmp", buffer.getvalue())
    assert [(container.upper / f"tmp/deep/{name}").stat().st_uid for name in ("new", "news")] == [0, 1000]
    with tarfile.open(fileobj=io.BytesIO(b"".join(container.export()))) as archive:
        assert (archive.getmember("a").uid, archive.getmember("etc/passwd").uid) == (1000, 0)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"privileged": True}, Conflict),
        ({"network_mode": "host"}, Conflict),
        ({"pid_mode": "host"}, Conflict),
        ({"userns_mode": "remapped"}, InvalidInput),
    ],
)
def test_what_does_not_go_with_remapping_is_refused(
    engine: Engine, image: Image, options: dict[str, Any], error: type[LabError]
) -> None:
    with pytest.raises(error):
        engine.containers.create(image, "true", **({"userns_mode": "remap", "network_mode": "none"} | options))
    assert engine.containers.list(all=True) == []


def test_the_users_of_labctr_in_subuid_are_taken(tmp_path: Path) -> None:
    assert idmap.subordinate_ids(directory=tmp_path) == idmap.IdMap(100_000, 100_000, 65_536)
    (tmp_path / "subuid").write_text("student:100000:65536\nlabctr:nonsense\nlabctr:231072:70000\n")
    (tmp_path / "subgid").write_text("labctr:300000:65536\n")
    assert idmap.subordinate_ids(directory=tmp_path) == idmap.IdMap(231_072, 300_000, 65_536)
