"""Containers over the Python interface, with their effects in the kernel."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pylab_container import Engine
from pylab_container.errors import (
    CommandNotExecutable,
    CommandNotFound,
    Conflict,
    ContainerFailed,
    ContainerNotFound,
    ImageNotFound,
    InvalidInput,
    NotFound,
)
from pylab_container.events import ContainerChanged, OverlayMounted
from pylab_container.host import programs
from pylab_container.images.image import Image
from pylab_container.oci.ids import CacheId
from pylab_container.runtime import monitor
from tests.support.waiting import eventually

pytestmark = pytest.mark.shared_engine


def run(engine: Engine, image: Image, script: str, **options: Any) -> str:
    output: bytes = engine.containers.run(image, ["sh", "-c", script], remove=True, network_mode="none", **options)
    return output.decode()


def engine_files(engine: Engine) -> list[str]:
    """List the files of the data root, without locks and the marker `committed`, which outlive their objects."""
    paths = (path for path in engine.data_root.rglob("*") if "locks" not in path.parts)
    return sorted(str(path) for path in paths if path.suffix != ".lock" and path.name != "committed")


# -- run ---------------------------------------------------------------------------------------


@pytest.mark.smoke
def test_a_command_runs_and_its_output_comes_back(engine: Engine, image: Image) -> None:
    before = engine_files(engine)
    assert engine.containers.run(image, ["echo", "hello"], remove=True) == b"hello\n"
    assert engine.containers.list(all=True) == []
    assert engine_files(engine) == before


def test_a_command_may_be_one_string(engine: Engine, image: Image) -> None:
    assert engine.containers.run("busybox:1", "echo 'a  b' c", remove=True, network_mode="none") == b"a  b c\n"


def test_output_of_any_size_and_bytes_comes_back_whole(engine: Engine, image: Image) -> None:
    assert len(run(engine, image, "yes | head -c 3000000")) == 3_000_000
    output = engine.containers.run(image, ["printf", r"\377\000\n"], remove=True, network_mode="none")
    assert output == b"\xff\0\n"


def test_a_command_that_fails_is_an_error_with_status_and_output(engine: Engine, image: Image) -> None:
    with pytest.raises(ContainerFailed, match="status 3") as caught:
        run(engine, image, "echo out; echo err >&2; exit 3")
    assert caught.value.status == 3
    assert b"out" in caught.value.output
    assert b"err" in caught.value.output
    assert engine.containers.list(all=True) == []


def test_a_command_killed_by_a_signal_has_128_more_than_its_number(engine: Engine, image: Image) -> None:
    with pytest.raises(ContainerFailed) as caught:
        run(engine, image, "sleep 9 & kill -9 $!; wait $!")
    assert caught.value.status == 137


@pytest.mark.parametrize(
    ("command", "error", "exit_code"),
    [
        (["nothing"], CommandNotFound, 127),
        (["/no/such/file"], CommandNotFound, 127),
        (["./nothing"], CommandNotFound, 127),
        (["/bin/plain"], CommandNotExecutable, 126),
        (["/etc"], CommandNotExecutable, 126),
    ],
)
def test_a_command_that_cannot_start_leaves_nothing_half_made(
    engine: Engine, image: Image, command: list[str], error: type[Exception], exit_code: int
) -> None:
    before = engine_files(engine)
    for run in (engine.containers.run, engine.containers.run_detached):
        with pytest.raises(error) as caught:
            run(image, command, remove=True)
        assert caught.value.exit_code == exit_code  # type: ignore[attr-defined]
    assert engine_files(engine) == before
    container = engine.containers.create(image, command, name="kept")
    with pytest.raises(error):
        container.start()
    assert container.status == "created"
    assert container.attrs["State"]["ExitCode"] == exit_code
    assert not engine.data.driver.is_mounted(engine.data.layers.writable(container.id).mount_id)
    with pytest.raises(error):
        container.start()
    container.remove()
    assert engine_files(engine) == before


def test_an_image_without_a_command_needs_one(engine: Engine, image: Image) -> None:
    with pytest.raises(InvalidInput, match="No command specified"):
        engine.containers.run(image)
    assert engine.containers.list(all=True) == []
    with pytest.raises(CommandNotFound):  # as with docker, an empty word is found out at the start
        engine.containers.run(image, [""])


def test_an_unknown_image_is_not_found(engine: Engine) -> None:
    with pytest.raises(ImageNotFound):
        engine.containers.run("nothing:1", ["true"])


def test_environment_directory_user_and_hostname_are_those_asked_for(engine: Engine, image: Image) -> None:
    script = 'echo "$A|$B|$HOME|$HOSTNAME|$(hostname)|$(pwd)|$(id -u):$(id -g)"'
    output = run(
        engine,
        image,
        script,
        environment={"A": "1", "B": "x=y z"},
        working_dir="/tmp/new",
        user="student",
        hostname="lab",
    )
    assert output.strip() == "1|x=y z|/home/student|lab|lab|/tmp/new|1000:1000"
    assert run(engine, image, "id -u; id -g", user="7:8").split() == ["7", "8"]


def test_an_unknown_user_or_network_is_refused_and_nothing_is_left(engine: Engine, image: Image) -> None:
    before = engine_files(engine)
    with pytest.raises(InvalidInput):
        run(engine, image, "true", user="nobody-knows")
    with pytest.raises(NotFound, match="network"):
        engine.containers.run(image, ["true"], network_mode="moon")
    assert engine_files(engine) == before


def test_the_entrypoint_comes_before_the_command(engine: Engine, image: Image) -> None:
    assert (
        engine.containers.run(image, ["a", "b"], entrypoint=["echo", "-n"], remove=True, network_mode="none") == b"a b"
    )


# -- names and lists ---------------------------------------------------------------------------


def test_a_name_that_is_taken_is_a_conflict_and_nothing_is_made(engine: Engine, image: Image) -> None:
    first = engine.containers.create(image, ["true"], name="web")
    before = engine_files(engine)
    with pytest.raises(Conflict, match=f'"/web" is already in use by container "{first.id}"'):
        engine.containers.create(image, ["true"], name="web")
    assert engine_files(engine) == before


@pytest.mark.parametrize("name", ["a b", "../x", "-x", "x/y", "x\n", "é"])
def test_a_bad_name_is_refused(engine: Engine, image: Image, name: str) -> None:
    with pytest.raises(InvalidInput, match="Invalid container name"):
        engine.containers.create(image, ["true"], name=name)


def test_a_container_is_found_by_name_id_and_beginning_of_its_id(engine: Engine, image: Image) -> None:
    container = engine.containers.create(image, ["true"], name="web")
    for spelling in ("web", "/web", container.id, container.short_id, container.id[:5]):
        assert engine.containers.get(spelling) == container
    for spelling in ("", "we", "x" * 12):
        with pytest.raises(ContainerNotFound, match="No such container"):
            engine.containers.get(spelling)


def test_only_running_containers_are_listed_unless_all_are_asked_for(engine: Engine, image: Image) -> None:
    created = engine.containers.create(image, ["true"])
    running = engine.containers.run_detached(image, ["sleep", "600"], network_mode="none")
    assert engine.containers.list() == [running]
    assert engine.containers.list(all=True) == [running, created]
    assert created.name != running.name


# -- life --------------------------------------------------------------------------------------


@pytest.mark.smoke
def test_a_container_goes_through_its_states(engine: Engine, image: Image) -> None:
    script = "trap 'exit 5' TERM; echo ready; while :; do sleep 0.1; done"
    container = engine.containers.create(image, ["sh", "-c", script])
    assert container.status == "created"
    container.start()
    assert container.status == "running"
    assert Path(f"/proc/{container.pid}").exists()
    with pytest.raises(Conflict, match="running"):
        container.start()
    with pytest.raises(Conflict, match="running"):
        container.remove()
    eventually(container.logs)  # before, a first process is deaf to what it has no trap for
    container.stop()
    assert (container.status, container.pid, container.wait()) == ("exited", 0, 5)
    container.stop()
    with pytest.raises(Conflict, match="not running"):
        container.kill()
    container.start()
    container.kill()
    assert container.wait() == 137
    container.remove()
    with pytest.raises(ContainerNotFound):
        _ = container.status


def test_a_container_deaf_to_sigterm_is_killed_in_the_end(engine: Engine, image: Image) -> None:
    script = "trap '' TERM; echo ready; sleep 600"
    container = engine.containers.run_detached(image, ["sh", "-c", script], network_mode="none")
    eventually(container.logs)
    container.stop(timeout=0.3)
    assert container.wait() == 137


def test_a_monitor_that_is_slow_to_report_is_waited_for(
    engine: Engine, image: Image, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The runtime exits before its monitor reports. After a SIGKILL of the runtime, a monitor never reports."""
    monkeypatch.setattr(
        monitor, "_REPORT_POLL_INTERVAL", 0.05
    )  # seconds; at four times as much it takes a runtime for killed
    runc = tmp_path / "bin/runc"
    runc.parent.mkdir()
    goes_on = "setsid sh -c 'sleep 0.5; kill -CONT $0' $PPID < /dev/null > /dev/null 2>&1 &"
    create = f'{programs.find("runc")} "$@"; status=$?; {goes_on} kill -STOP $PPID; exit $status'
    runc.write_text(f'#!/bin/sh\ncase " $* " in *" create "*) {create};; esac\nexec {programs.find("runc")} "$@"\n')
    runc.chmod(0o755)
    monkeypatch.setenv("PATH", str(runc.parent), prepend=":")
    assert run(engine, image, "echo works") == "works\n"


def test_a_monitor_whose_starter_and_runtime_have_exited_is_not_waited_for_by_its_exit_command(
    engine: Engine, image: Image, command: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The exit command waits for a running runtime only. sitecustomize raises that limit to an hour."""
    (tmp_path / "sitecustomize.py").write_text(
        "from pylab_container.runtime.conmon import Conmon\nConmon.abandon.__defaults__ = (3600.0,)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    runc, begun, go = tmp_path / "bin/runc", tmp_path / "begun", tmp_path / "go"
    runc.parent.mkdir()
    create = f"touch {begun}; until [ -e {go} ]; do sleep 0.05; done; exit 1"
    runc.write_text(f'#!/bin/sh\ncase " $* " in *" create "*) {create};; esac\nexec {programs.find("runc")} "$@"\n')
    runc.chmod(0o755)
    monkeypatch.setenv("PATH", str(runc.parent), prepend=":")
    container = engine.containers.create(image, ["true"], network_mode="none")
    with subprocess.Popen([*command, "start", container.id]) as starter:
        eventually(begun.exists)
        starter.kill()
    go.touch()
    bundle = engine.runtime.bundle(container.id)
    eventually(lambda: not bundle.exists())
    monkeypatch.undo()
    container.start()
    assert container.wait(60) == 0


@pytest.mark.parametrize("name", ["USR1", "SIGUSR1", 10, "10"])
def test_a_signal_arrives_however_it_is_called(engine: Engine, image: Image, name: str | int) -> None:
    script = "trap 'exit 9' USR1; echo ready; while :; do sleep 0.05; done"
    container = engine.containers.run_detached(image, ["sh", "-c", script], network_mode="none")
    eventually(container.logs)
    container.kill(name)
    assert container.wait(60) == 9


def test_an_unknown_signal_changes_nothing(engine: Engine, image: Image) -> None:
    container = engine.containers.run_detached(image, ["sleep", "600"], network_mode="none")
    for name in ("NOTHING", "0", "-1", "99"):
        with pytest.raises(InvalidInput, match="signal"):
            container.kill(name)
    assert container.status == "running"


def test_waiting_may_have_a_limit(engine: Engine, image: Image) -> None:
    container = engine.containers.run_detached(image, ["sleep", "600"], network_mode="none")
    with pytest.raises(TimeoutError):
        container.wait(0.1)


def test_what_was_written_stays_over_a_restart_and_goes_with_the_container(engine: Engine, image: Image) -> None:
    container = engine.containers.run_detached(
        image, ["sh", "-c", "cat /note || echo first > /note"], network_mode="none"
    )
    container.wait()
    assert (container.upper / "note").read_text() == "first\n"
    container.start()
    container.wait()
    assert container.logs().endswith(b"first\n")
    upper = container.upper
    container.remove()
    assert not upper.exists()


def test_logs_keep_streams_apart(engine: Engine, image: Image) -> None:
    script = "echo one; echo two >&2; echo three; printf four"
    container = engine.containers.run_detached(image, ["sh", "-c", script], network_mode="none")
    container.wait()
    assert container.logs(stderr=False) == b"one\nthree\nfour"
    assert container.logs(stdout=False) == b"two\n"
    assert len(container.logs(timestamps=True).splitlines()) == 4
    assert container.logs(tail=1) == b"four"


def test_a_container_with_auto_remove_goes_by_itself(engine: Engine, image: Image) -> None:
    script = "until [ -e /go ]; do sleep 0.05; done"
    container = engine.containers.run_detached(image, ["sh", "-c", script], remove=True, network_mode="none")
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(container.wait)
        eventually(waiting.running)
        (container.merged / "go").touch()
        assert waiting.result() == 0
    with pytest.raises(ContainerNotFound):
        _ = container.status


# -- exec --------------------------------------------------------------------------------------


@pytest.mark.smoke
def test_exec_joins_the_container(engine: Engine, image: Image) -> None:
    container = engine.containers.run_detached(image, ["sleep", "600"], environment={"A": "1"}, network_mode="none")
    script = 'echo "$A$B $(pwd) $(id -u)"; cat /proc/1/cmdline | tr "\\0" " "; exit 4'
    result = container.exec_run(["sh", "-c", script], environment={"B": "2"}, workdir="/tmp", user="student")
    assert result == (4, b"12 /tmp 1000\nsleep 600 ")
    assert container.exec_run("echo a b").output == b"a b\n"


def test_exec_of_nothing_is_refused_and_the_container_lives(engine: Engine, image: Image) -> None:
    container = engine.containers.run_detached(image, ["sleep", "600"], network_mode="none")
    with pytest.raises(CommandNotFound):
        container.exec_run(["nothing"])
    with pytest.raises(CommandNotExecutable):
        container.exec_run(["/bin/plain"])
    with pytest.raises(InvalidInput):
        container.exec_run([])
    assert container.status == "running"
    container.kill()
    with pytest.raises(Conflict, match="not running"):
        container.exec_run(["true"])


# -- commit ------------------------------------------------------------------------------------


@pytest.mark.smoke
def test_a_commit_holds_what_the_container_changed_and_nothing_of_the_engine(engine: Engine, image: Image) -> None:
    script = "echo new > /new; rm /bin/plain; rm -r /home; mkdir /home; chmod 4755 /etc/group"
    container = engine.containers.run_detached(image, ["sh", "-c", script], network_mode="none")
    container.wait()
    child = container.commit("lab", "v1", message="changed", author="student", conf={"Cmd": ["cat", "/new"]})
    assert child.tags == ["lab:v1"]
    assert child.config.config["Cmd"] == ["cat", "/new"]
    assert engine.containers.run(child, remove=True, network_mode="none") == b"new\n"
    check = "ls /home | wc -l; test -e /bin/plain || echo gone; stat -c %a /etc/group"
    assert run(engine, child, check).split() == ["0", "gone", "4755"]
    diff = engine.data.driver.diff_path(child.layers[-1].cache_id)
    files = sorted(str(path.relative_to(diff)) for path in diff.rglob("*"))
    assert files == ["bin", "bin/plain", "etc", "etc/group", "home", "new"]
    assert child.attrs["Parent"] == image.id
    assert child.attrs["Container"] == container.id


def test_a_running_container_is_committed_frozen_and_goes_on(engine: Engine, image: Image) -> None:
    container = engine.containers.run_detached(image, ["sh", "-c", "echo x > /x; sleep 600"], network_mode="none")
    eventually((container.upper / "x").exists)
    child = container.commit()
    assert (engine.data.driver.diff_path(child.layers[-1].cache_id) / "x").exists()
    assert container.exec_run("echo alive").output == b"alive\n"


# -- volumes -----------------------------------------------------------------------------------


def test_a_bind_shows_the_host_s_directory_to_read_and_write(engine: Engine, image: Image, tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/in").write_text("from the host")
    output = run(engine, image, "cat /data/in; echo out > /data/out", volumes=[f"{tmp_path}/shared:/data"])
    assert output == "from the host"
    assert (tmp_path / "shared/out").read_text() == "out\n"


def test_a_read_only_bind_cannot_be_written(engine: Engine, image: Image, tmp_path: Path) -> None:
    with pytest.raises(ContainerFailed, match="Read-only file system"):
        run(engine, image, "echo x > /data/x", volumes=[f"{tmp_path}:/data:ro"])
    assert not (tmp_path / "x").exists()


def test_a_single_file_may_be_bound_over_one_of_the_image(engine: Engine, image: Image, tmp_path: Path) -> None:
    (tmp_path / "passwd").write_text("bound\n")
    assert run(engine, image, "cat /etc/passwd", volumes=[f"{tmp_path}/passwd:/etc/passwd:ro"]) == "bound\n"


def test_a_volume_keeps_its_data_and_starts_with_the_image_s(engine: Engine, image: Image) -> None:
    run(engine, image, "echo x > /etc/more", volumes=["data:/etc"])
    assert {"group", "more", "passwd"} <= set(run(engine, image, "ls /v", volumes=["data:/v:ro"]).split())
    assert (engine.data_root / "volumes/data/_data/more").read_text() == "x\n"


def test_a_volume_without_a_name_goes_with_its_container(engine: Engine, image: Image) -> None:
    container = engine.containers.run_detached(image, ["true"], volumes=["/data"], network_mode="none")
    container.wait()
    (mount,) = container.attrs["Mounts"]
    assert Path(mount["Source"]).is_dir()
    container.remove(v=True)
    assert not Path(mount["Source"]).exists()


@pytest.mark.parametrize(
    "text",
    ["", ":", "/a:", ":/b", "/a:b", "/a:/", "/a:/b:rx", "/a:/b:ro:x", "../x:/b", "a/b:/c", ".:/b", "..:/b", "-x:/b"],
)
def test_a_bad_volume_is_refused_and_nothing_is_left(engine: Engine, image: Image, text: str) -> None:
    before = engine_files(engine)
    with pytest.raises(InvalidInput):
        run(engine, image, "true", volumes=[text])
    assert engine_files(engine) == before


# -- what the kernel sees ----------------------------------------------------------------------


def test_limits_are_those_of_the_cgroup(engine: Engine, image: Image) -> None:
    container = engine.containers.run_detached(
        image,
        ["sleep", "600"],
        mem_limit=64 << 20,
        nano_cpus=500_000_000,
        pids_limit=20,
        network_mode="none",
    )
    found = {}
    for name in ("memory.limit_in_bytes", "memory.max", "cpu.cfs_quota_us", "cpu.max", "pids.max"):
        # In the hierarchy of cgroup v2, or in each of v1. Not with `**`: other tests concurrently remove cgroups.
        for place in ("labctr", "*/labctr"):
            for path in Path("/sys/fs/cgroup").glob(f"{place}/{container.id}/{name}"):
                found[name] = path.read_text().split()[0]
    memory = found.get("memory.max") or found["memory.limit_in_bytes"]
    assert memory == str(64 << 20)
    assert (found.get("cpu.max") or found["cpu.cfs_quota_us"]) == "50000"
    assert found["pids.max"] == "20"
    crowd = container.exec_run(["sh", "-c", "for i in $(seq 40); do sleep 100 > /dev/null 2>&1 & done"])
    assert b"fork" in crowd.output


def test_a_container_that_takes_too_much_memory_is_killed(engine: Engine, image: Image) -> None:
    with pytest.raises(ContainerFailed) as caught:
        run(engine, image, "head -c 200m /dev/zero | tail", mem_limit=16 << 20)
    assert caught.value.status in (137, 1)


def test_the_first_process_has_docker_s_fences(engine: Engine, image: Image) -> None:
    status = dict(
        line.split(":\t", 1) for line in run(engine, image, "cat /proc/self/status").splitlines() if ":\t" in line
    )
    assert status["CapEff"] == status["CapBnd"] == "00000000a80425fb", "Docker's fourteen capabilities"
    assert status["CapAmb"].strip("0") == ""
    assert status["Seccomp"] == "2"
    unprivileged = run(engine, image, "grep CapEff /proc/self/status", user="student")
    assert unprivileged.split()[1].strip("0") == ""


@pytest.mark.parametrize(
    "script",
    [
        "mount -t tmpfs tmpfs /tmp",
        "echo 1 > /proc/sys/kernel/panic",
        "echo b > /proc/sysrq-trigger",
        "test -s /proc/kcore",
        "test -s /proc/keys",
        "ls /sys/firmware/* ",
        "mknod /dev/sda b 8 0 && cat /dev/sda",
        "hostname other",
        "chroot / mount --bind /proc /tmp",
        "echo x > /sys/x",
    ],
)
def test_the_dangerous_is_refused_inside(engine: Engine, image: Image, script: str) -> None:
    with pytest.raises(ContainerFailed):
        run(engine, image, script)


@pytest.mark.smoke
def test_a_container_sees_its_own_processes_network_and_mounts_only(engine: Engine, image: Image) -> None:
    assert run(engine, image, "ls /proc | grep -c '^[0-9]'").strip() in ("2", "3", "4")
    assert run(engine, image, "ls /sys/class/net").split() == ["lo"]
    assert str(engine.data_root) not in run(engine, image, "cat /proc/self/mountinfo | cut -d' ' -f5")


def test_hostname_hosts_and_resolv_conf_are_the_engine_s(engine: Engine, image: Image) -> None:
    container = engine.containers.run_detached(image, ["sleep", "600"])
    assert container.exec_run("cat /etc/hostname").output.decode().strip() == container.short_id
    hosts = container.exec_run("cat /etc/hosts").output.decode()
    assert "127.0.0.1\tlocalhost" in hosts
    assert f"{container.address}\t{container.short_id}" in hosts
    resolv_conf = container.exec_run("cat /etc/resolv.conf").output.decode()
    assert "nameserver" in resolv_conf
    assert "nameserver 127." not in resolv_conf
    container.exec_run(["sh", "-c", "echo 1.2.3.4 lab >> /etc/hosts"])
    assert "1.2.3.4 lab" in container.exec_run("cat /etc/hosts").output.decode()
    container.kill()
    assert list(container.upper.iterdir()) == [], "mounted files are not changes of the container"


def test_events_report_what_happened(engine: Engine, image: Image) -> None:
    with engine.events.collected() as events:
        run(engine, image, "true")
    actions = [event.action for event in events if isinstance(event, ContainerChanged)]
    assert actions == ["created", "attached", "started", "exited", "removed"]
    assert any(isinstance(event, OverlayMounted) for event in events)


# -- many processes ----------------------------------------------------------------------------

PRELUDE = "import sys, os; from pylab_container import Engine; e = Engine(sys.argv[1]);"


def start_other(engine: Engine, script: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PRELUDE + script, str(engine.data_root)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(process: subprocess.Popen[str]) -> str:
    output, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    return output


def test_a_container_outlives_the_process_that_started_it(engine: Engine, image: Image) -> None:
    command = "['sh', '-c', 'echo hello; sleep 600']"
    script = f"print(e.containers.run_detached('busybox:1', {command}, name='long').id)"
    container_id = finished(start_other(engine, script)).strip()
    container = engine.containers.get("long")
    assert (container.id, container.status) == (container_id, "running")
    assert container.exec_run("echo still here").output == b"still here\n"
    assert container.logs() == b"hello\n"
    stop = "e.containers.get('long').stop(0)"
    finished(start_other(engine, stop))
    assert container.status == "exited"


def test_a_container_survives_the_kill_of_its_starter(engine: Engine, image: Image) -> None:
    script = (
        "e.containers.run_detached('busybox:1', "
        "['sh', '-c', 'until rm /go; do sleep 0.1; done 2> /dev/null; echo done'], "
        "name='orphan'); os.kill(os.getpid(), 9)"
    )
    other = start_other(engine, script)
    other.communicate(timeout=600)
    assert other.returncode == -signal.SIGKILL
    container = engine.containers.get("orphan")
    assert container.status == "running"
    container.exec_run("touch /go")
    assert container.wait(60) == 0
    assert container.logs() == b"done\n"
    assert container.attrs["State"]["FinishedAt"] > container.attrs["State"]["StartedAt"]


def test_one_of_many_gets_the_name(engine: Engine, image: Image) -> None:
    script = (
        "from pylab_container.errors import Conflict\n"
        "try: e.containers.create('busybox:1', ['true'], name='wanted'); print('mine')\n"
        "except Conflict: print('taken')"
    )
    others = [start_other(engine, "\n" + script) for _ in range(4)]
    assert sorted(finished(other).strip() for other in others) == ["mine", "taken", "taken", "taken"]
    assert [container.name for container in engine.containers.list(all=True)] == ["wanted"]
    assert len(list((engine.data_root / "image/overlay2/layerdb/mounts").iterdir())) == 1


@pytest.mark.own_engine
def test_one_of_many_imports_stores_the_layer(engine: Engine, busybox_tar: Path) -> None:
    others = [start_other(engine, f"print(e.images.import_({str(busybox_tar)!r}, 'x:{n}').id)") for n in range(4)]
    for other in others:
        finished(other)
    assert len(engine.images.list()) == len({image.id for image in engine.images.list()})
    assert len(engine.data.layers.all()) == 1
    assert sorted(tag.reference.tag or "" for tag in engine.data.images.tags()) == ["0", "1", "2", "3"]


def test_two_stop_one_container_at_once(engine: Engine, image: Image) -> None:
    container = engine.containers.run_detached(image, ["sleep", "600"])
    others = [start_other(engine, f"e.containers.get({container.id!r}).kill()") for _ in range(3)]
    results = [other.communicate(timeout=600)[1] for other in others]
    assert container.status == "exited"
    assert all(not errors or "is not running" in errors for errors in results)


def test_a_starter_killed_at_any_moment_leaves_a_store_that_works(
    engine: Engine, image: Image, *, stress: bool
) -> None:
    loop = "print('go', flush=True)\nfor _ in range(9): e.containers.run('busybox:1', ['true'], remove=True)"
    for number in range(0, 12, 1 if stress else 4):
        other = start_other(engine, loop)
        assert other.stdout
        other.stdout.readline()
        time.sleep(0.05 + number * 0.04)  # the moment of the kill
        os.kill(other.pid, signal.SIGKILL)
        other.communicate(timeout=600)
    assert run(engine, image, "echo works") == "works\n"
    assert engine.images.list() == [image]
    for number, container in enumerate(engine.containers.list(all=True)):
        if number % 2:
            container.start()
        container.remove(force=True)
    assert engine.containers.list(all=True) == []
    assert not list((engine.runtime.path / "runc").iterdir())
    for merged in (engine.data_root / "overlay2").glob("*-init/merged"):  # no container names it: work for fsck
        engine.data.driver.unmount(CacheId(merged.parent.name))


def test_nothing_is_started_from_inside_a_chroot(repository: Path) -> None:
    """In such a directory runc exec would run its command on the host."""
    script = (
        "import os; from pylab_container.containers import launch\n"
        f"launch.refuse_chroot(); os.chroot({str(repository)!r})\n"
        "try: launch.refuse_chroot()\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("RuntimeFailed containers cannot be started from inside a chroot\nHint: ")
