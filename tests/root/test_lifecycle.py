"""A container's life on the real kernel: states, restart policies, health checks, and processes that are killed."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from pylab_container import Engine
from pylab_container.containers import deletion, health_watcher, lookup, removal, signals
from pylab_container.containers import start as start_module
from pylab_container.containers.settle import read_settled
from pylab_container.docker.filters import Filters
from pylab_container.engine.container import Container
from pylab_container.errors import Conflict, ContainerNotFound, InvalidInput, LabError, RuntimeFailed
from pylab_container.host import programs
from pylab_container.images.image import Image
from pylab_container.oci.host_config import RestartPolicy
from pylab_container.oci.ids import ContainerId
from pylab_container.oci.lifecycle import State
from pylab_container.runtime import Runtime
from pylab_container.runtime.monitor import UNKNOWN_STATUS, Monitor
from pylab_container.runtime.runc import cgroup_version
from pylab_container.store.container_store import ContainerRecord
from pylab_container.store.data_root import DataRoot
from tests.support.processes import pids
from tests.support.waiting import PATIENCE, eventually, never_within

FOREVER = ["sleep", "1000"]
OBEDIENT = ["sh", "-c", "trap 'exit 7' TERM USR1; echo ready; while :; do sleep 0.1; done"]


def start(engine: Engine, image: Image, command: list[str] | None = None, **options: Any) -> Container:
    """Start a container, by default one that exits with 7 at SIGTERM and has set its trap by then."""
    options = {"network_mode": "none", **options}
    container = engine.containers.run_detached(image, command or OBEDIENT, **options)
    if command is None:
        eventually(lambda: container.logs() == b"ready\n")
    return container


# -- pause, stop, kill, restart ----------------------------------------------------------------


def test_a_paused_container_stands_still_and_goes_on(engine: Engine, image: Image) -> None:
    container = start(engine, image, ["sh", "-c", "while :; do echo x >> /count; sleep 0.02; done"])
    eventually((container.upper / "count").exists)

    def count() -> int:
        return (container.upper / "count").stat().st_size

    container.pause()
    state = container.attrs["State"]
    assert (state["Status"], state["Running"], state["Paused"]) == ("paused", True, True)
    before = count()
    assert never_within(0.2, lambda: count() != before)
    for attempt in (container.pause, container.start, lambda: container.exec_run(["true"]), container.remove):
        with pytest.raises(Conflict):
            attempt()
    container.unpause()
    assert container.status == "running"
    eventually(lambda: count() > before)
    with pytest.raises(Conflict, match="is not paused"):
        container.unpause()


def test_a_paused_container_can_be_stopped_killed_and_removed(engine: Engine, image: Image) -> None:
    stopped, killed, removed = (start(engine, image) for _ in range(3))
    for container in (stopped, killed, removed):
        container.pause()
    stopped.stop(timeout=PATIENCE)
    assert stopped.attrs["State"]["ExitCode"] == 7
    killed.kill()
    assert killed.attrs["State"]["ExitCode"] == 137
    removed.remove(force=True)
    with pytest.raises(ContainerNotFound):
        _ = removed.status


@pytest.mark.parametrize(("stop_signal", "state"), [(None, "running"), ("SIGUSR1", "paused")])
def test_a_signal_resumes_a_paused_container_unless_it_differs_from_the_containers_stop_signal(
    engine: Engine, image: Image, stop_signal: str | None, state: str
) -> None:
    container = start(engine, image, FOREVER, stop_signal=stop_signal)
    container.pause()
    container.kill("SIGURG")  # ignored by default (signal(7))
    found = engine.runtime.runc.state(container.id)
    assert found
    assert (container.status, found["status"]) == (state, state)
    container.remove(force=True)


def test_stop_sends_the_stop_signal_and_kills_after_the_containers_own_timeout(
    engine: Engine, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    polite = start(engine, image, stop_signal="SIGUSR1")
    assert polite.attrs["Config"]["StopSignal"] == "SIGUSR1"
    polite.stop(timeout=PATIENCE)
    assert polite.wait() == 7
    deaf = start(engine, image, FOREVER, stop_timeout=1)
    assert deaf.attrs["Config"]["StopTimeout"] == 1
    timeouts: list[float | None] = []
    wait = Monitor.wait

    def recorded(monitor: Monitor, timeout: float | None = None) -> int:
        timeouts.append(timeout)
        return wait(monitor, timeout)

    with monkeypatch.context() as patched:
        patched.setattr(Monitor, "wait", recorded)
        before = time.monotonic()
        deaf.stop()
    assert timeouts[0] == 1  # the default is 10
    assert time.monotonic() - before > 0.9
    assert deaf.wait() == 137
    deaf.stop()  # no error: it does not run


def test_kill_of_a_stopped_container_has_dockers_words(engine: Engine, image: Image) -> None:
    container = engine.containers.create(image, FOREVER, name="still", network_mode="none")
    with pytest.raises(Conflict, match=f"Cannot kill container: still: Container {container.id} is not running"):
        container.kill()


def test_a_signal_that_is_handled_leaves_the_container_running(engine: Engine, image: Image) -> None:
    container = start(engine, image, ["sh", "-c", "trap 'echo hup' HUP; echo ready; while :; do sleep 0.1; done"])
    eventually(lambda: container.logs() == b"ready\n")
    container.kill("HUP")
    eventually(lambda: container.logs() == b"ready\nhup\n")
    assert container.status == "running"


def test_restart_starts_running_and_stopped_containers(engine: Engine, image: Image) -> None:
    container = start(engine, image)
    first = container.pid
    container.restart()
    assert container.status == "running"
    assert container.pid != first
    container.stop()
    container.restart()
    assert container.status == "running"
    assert container.attrs["RestartCount"] == 0


def test_the_log_goes_on_when_a_container_is_started_again(engine: Engine, image: Image) -> None:
    container = start(engine, image, ["echo", "once"])
    container.wait()
    container.start()
    container.wait()
    assert container.logs() == b"once\nonce\n"


# -- rename, update, remove --------------------------------------------------------------------


def test_rename_frees_the_old_name(engine: Engine, image: Image) -> None:
    container = engine.containers.create(image, FOREVER, name="old", network_mode="none")
    other = engine.containers.create(image, FOREVER, name="other", network_mode="none")
    container.rename("new")
    assert engine.containers.get("new").id == container.id
    assert container.attrs["Name"] == "/new"
    engine.containers.create(image, FOREVER, name="old", network_mode="none")
    with pytest.raises(Conflict, match=f'name "/new" is already in use by container "{container.id}"'):
        other.rename("new")
    with pytest.raises(InvalidInput, match="same name as its current name"):
        other.rename("other")
    with pytest.raises(InvalidInput, match="Invalid container name"):
        other.rename("a/b")
    with pytest.raises(InvalidInput, match="may be empty"):
        other.rename("")


def cgroup_value(container: Container, controller: str, name: str) -> str:
    return Path(f"/sys/fs/cgroup/{controller}/labctr/{container.id}/{name}").read_text().strip()


def test_update_changes_the_limits_of_a_running_container(engine: Engine, image: Image) -> None:
    container = start(engine, image, mem_limit="64m", pids_limit=20)
    container.update(mem_limit="32m", memswap_limit="64m", nano_cpus=500_000_000, cpu_shares=512, pids_limit=30)
    host = container.attrs["HostConfig"]
    assert (host["Memory"], host["MemorySwap"], host["NanoCpus"]) == (32 << 20, 64 << 20, 500_000_000)
    assert (host["CpuShares"], host["PidsLimit"]) == (512, 30)
    assert container.exec_run(["cat", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]).output == b"%d\n" % (32 << 20)
    assert cgroup_value(container, "pids", "pids.max") == "30"
    assert cgroup_value(container, "cpu", "cpu.shares") == "512"
    assert cgroup_value(container, "cpu", "cpu.cfs_quota_us") == "50000"
    container.update(pids_limit=-1)
    assert cgroup_value(container, "pids", "pids.max") == "max"
    assert container.attrs["HostConfig"]["PidsLimit"] == 0
    with pytest.raises(Conflict, match="smaller than already set memoryswap"):
        container.update(mem_limit="128m")
    with pytest.raises(TypeError):
        container.update(colour="red")  # type: ignore[call-arg]


def test_update_of_a_stopped_container_holds_at_its_next_start(engine: Engine, image: Image) -> None:
    container = engine.containers.create(image, FOREVER, network_mode="none")
    container.update(pids_limit=17, restart_policy={"Name": "always"})
    assert container.attrs["HostConfig"]["RestartPolicy"] == {"Name": "always", "MaximumRetryCount": 0}
    container.start()
    assert cgroup_value(container, "pids", "pids.max") == "17"
    container.update(restart_policy={"Name": "no"})


def test_only_force_removes_a_running_container(engine: Engine, image: Image) -> None:
    container = start(engine, image)
    with pytest.raises(Conflict, match=f"You cannot remove a running container {container.id}"):
        container.remove()
    container.remove(force=True)
    assert engine.containers.list(all=True) == []


def test_force_removes_a_container_that_is_started_concurrently(
    engine: Engine, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    container = engine.containers.create(image, FOREVER, network_mode="none")
    others = [Engine(engine.data_root).containers.get(container.id)]

    def then_started(data: DataRoot, runtime: Runtime, container_id: ContainerId) -> ContainerRecord:
        seen = read_settled(data, runtime, container_id)
        while others:
            others.pop().start()
        return seen

    monkeypatch.setattr(removal, "read_settled", then_started)
    container.remove(force=True)
    assert others == engine.containers.list(all=True) == []


def test_locking_a_removed_container_leaves_no_lock_file(engine: Engine, image: Image) -> None:
    container = engine.containers.create(image, FOREVER, network_mode="none")
    container.remove()
    with pytest.raises(ContainerNotFound), engine.data.records.lock(container.id):
        lookup.read(engine.data.records, container.id)
    assert not (engine.data.locks / container.id).exists()


def test_a_bundle_is_removed_although_the_monitor_of_a_command_writes_into_it(
    engine: Engine, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    container = engine.containers.create(image, FOREVER, network_mode="none")
    container.start_attached().close()  # only this process records the exit
    bundle = engine.runtime.path / container.id
    rmdir = os.rmdir
    written: list[Path] = []

    def interrupted(path: str, **options: Any) -> None:
        if path == container.id and not written:
            written.append(bundle / "exec/0/status")
            written[0].parent.mkdir(parents=True)
            written[0].write_text("137")
        rmdir(path, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "rmdir", interrupted)
        container.kill()
    assert written
    assert not bundle.exists()


# -- restart policies --------------------------------------------------------------------------


def test_on_failure_restarts_up_to_its_count_and_records_how_often(engine: Engine, image: Image) -> None:
    container = start(
        engine, image, ["sh", "-c", "echo x; exit 3"], restart_policy={"Name": "on-failure", "MaximumRetryCount": 2}
    )
    assert container.wait(PATIENCE) == 3
    attrs = container.attrs
    assert (attrs["RestartCount"], attrs["State"]["Status"], attrs["State"]["ExitCode"]) == (2, "exited", 3)
    assert container.logs() == b"x\n" * 3


def test_on_failure_does_not_restart_after_success(engine: Engine, image: Image) -> None:
    container = start(engine, image, ["true"], restart_policy={"Name": "on-failure"})
    assert container.wait(PATIENCE) == 0
    assert container.attrs["RestartCount"] == 0


def test_a_late_waiter_gets_the_status_of_the_last_exit(
    engine: Engine, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    container = start(
        engine, image, ["sh", "-c", "sleep 0.3; exit 3"], restart_policy={"Name": "on-failure", "MaximumRetryCount": 1}
    )
    wait = Monitor.wait

    def late(monitor: Monitor, timeout: float | None = None) -> int:
        """Return the first status after the policy has started the container again."""
        status = wait(monitor, timeout)
        eventually(lambda: container.attrs["RestartCount"] == 1)
        return status

    with monkeypatch.context() as patched:
        patched.setattr(Monitor, "wait", late)
        assert container.wait(PATIENCE) == 3
    assert (container.status, container.attrs["RestartCount"]) == ("exited", 1)


def test_always_restarts_until_the_container_is_stopped(engine: Engine, image: Image) -> None:
    container = start(engine, image, ["sh", "-c", "echo x; exit 0"], restart_policy={"Name": "always"})
    eventually(lambda: container.attrs["RestartCount"] >= 2)
    states: list[dict[str, Any]] = []  # each may have changed when it is looked at

    def restarts() -> bool:
        states.append(container.attrs["State"])
        return bool(states[-1]["Status"] == "restarting")

    def refusal() -> str:
        try:
            container.exec_run(["true"])
        except LabError as error:
            return error.message
        return ""

    eventually(restarts)
    assert (states[-1]["Restarting"], states[-1]["Running"], states[-1]["Pid"]) == (True, True, 0)
    eventually(lambda: "is restarting, wait until the container is running" in refusal())
    container.stop()
    count = container.attrs["RestartCount"]
    eventually(lambda: not pids(container.id))  # no monitor and no exit command is left that could start it
    assert container.status == "exited"
    assert container.attrs["RestartCount"] == count
    container.start()
    eventually(lambda: container.attrs["RestartCount"] >= 1)


def test_a_container_that_restarts_can_be_removed_at_any_moment(engine: Engine, image: Image) -> None:
    for moment in (0.0, 0.15, 0.35):
        container = start(engine, image, ["false"], restart_policy={"Name": "always"})
        time.sleep(moment)
        container.remove(force=True)
        assert engine.containers.list(all=True) == []


def test_kill_ends_a_policy_and_a_crash_does_not(engine: Engine, image: Image) -> None:
    container = start(engine, image, FOREVER, restart_policy={"Name": "unless-stopped"})
    first = container.pid
    os.kill(first, signal.SIGKILL)
    eventually(lambda: container.pid not in (0, first))
    assert container.attrs["RestartCount"] == 1
    container.kill()
    eventually(lambda: not pids(container.id))  # no monitor and no exit command is left that could start it
    assert container.status == "exited"


def test_a_killed_monitor_does_not_end_a_policy(engine: Engine, image: Image) -> None:
    container = start(engine, image, FOREVER, restart_policy={"Name": "always"})
    os.kill(engine.runtime.monitor(container.id).conmon_pid, signal.SIGKILL)
    eventually(lambda: container.attrs["RestartCount"] == 1 and container.status == "running")


def test_a_killed_restarter_is_replaced(engine: Engine, image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    container = start(engine, image, FOREVER)
    container.kill()
    eventually(lambda: not pids(container.id))  # the process that records the exit would start it at once
    record = container.record
    engine.data.records.update(
        record,
        state=State.RESTARTING,
        restart_delay=0.1,
        finished_at="2020-01-01T00:00:00Z",
        host_config=replace(record.host_config, restart_policy=RestartPolicy(name="always")),
    )
    assert container.status == "restarting"
    eventually(lambda: container.status == "running")


def test_a_restart_keeps_a_container_with_auto_remove(engine: Engine, image: Image) -> None:
    container = start(engine, image, auto_remove=True)
    before = container.pid
    container.restart(timeout=5)
    assert (container.status, container.attrs["HostConfig"]["AutoRemove"]) == ("running", True)
    assert container.pid != before
    container.kill()
    eventually(lambda: engine.containers.list(all=True) == [])


def test_a_policy_and_auto_remove_exclude_each_other(engine: Engine, image: Image) -> None:
    with pytest.raises(InvalidInput, match="can't create 'AutoRemove' container with restart policy"):
        engine.containers.create(image, FOREVER, auto_remove=True, restart_policy={"Name": "always"})
    with pytest.raises(InvalidInput, match="--restart and --rm"):
        engine.containers.run(image, FOREVER, remove=True, restart_policy={"Name": "always"})


# -- health ------------------------------------------------------------------------------------

SECOND = 10**9


def check(test: object, **more: object) -> dict[str, object]:
    return {"test": test, "interval": SECOND // 5, "timeout": 30 * SECOND, "retries": 2, **more}


def test_a_container_becomes_healthy_unhealthy_and_healthy_again(engine: Engine, image: Image) -> None:
    unchecked = start(engine, image, FOREVER, healthcheck=check("true", interval=3600 * SECOND))
    assert unchecked.health == "starting"
    container = start(engine, image, FOREVER, healthcheck=check("echo checked; test -e /ok"))
    eventually(lambda: container.health == "unhealthy")
    log = container.attrs["State"]["Health"]["Log"]
    assert (log[-1]["ExitCode"], log[-1]["Output"]) == (1, "checked\n")
    assert container.attrs["State"]["Health"]["FailingStreak"] >= 2
    container.exec_run(["touch", "/ok"])
    eventually(lambda: container.health == "healthy")
    assert container.attrs["State"]["Health"]["FailingStreak"] == 0
    eventually(lambda: len(container.attrs["State"]["Health"]["Log"]) == 5)
    container.stop(timeout=0)
    assert container.attrs["State"]["Health"]["Status"] == "unhealthy"


def test_a_check_that_hangs_is_killed_and_failures_do_not_count_at_the_start(engine: Engine, image: Image) -> None:
    hanging = start(engine, image, FOREVER, healthcheck=check(["CMD", "sleep", "99"], timeout=SECOND // 5))
    slow = start(engine, image, FOREVER, healthcheck=check("false", start_period=3600 * SECOND))
    eventually(lambda: hanging.health == "unhealthy")
    last = hanging.attrs["State"]["Health"]["Log"][-1]
    assert (last["ExitCode"], last["Output"]) == (-1, "Health check exceeded timeout (200ms)")
    assert hanging.exec_run(["ps"]).output.count(b"sleep 99") <= 1  # the next one, by now
    eventually(lambda: len(slow.attrs["State"]["Health"]["Log"]) >= 3)
    assert slow.health == "starting"


def test_a_check_that_hangs_leaves_what_it_had_printed(engine: Engine, image: Image) -> None:
    hanging = start(engine, image, FOREVER, healthcheck=check("echo looking; sleep 99", timeout=SECOND // 2))
    eventually(lambda: hanging.health == "unhealthy")
    log = [(entry["ExitCode"], entry["Output"]) for entry in hanging.attrs["State"]["Health"]["Log"]]
    assert (-1, "Health check exceeded timeout (500ms): looking\n") in log


@pytest.mark.parametrize("kills", ["kills", "stalls"])
def test_a_container_that_runs_on_out_of_memory_has_an_event(engine: Engine, image: Image, kills: str) -> None:
    options: dict[str, Any] = {"mem_limit": "16m", "oom_kill_disable": kills == "stalls", "network_mode": "none"}
    if kills == "stalls" and cgroup_version() == "2":
        with pytest.raises(LabError, match="cannot be disabled"):
            engine.containers.run(image, ["true"], **options)
        return
    script = "(x=aaaaaaaa; while :; do x=$x$x; done) & wait $!; sleep 1000"
    container = engine.containers.run_detached(image, ["sh", "-c", script], **options)
    filters: Filters = {"event": ["oom"], "container": [container.id]}
    events: list[Any] = []
    stop = threading.Event()
    reader = threading.Thread(target=lambda: events.extend(engine.event_log.read(since=0, filters=filters, stop=stop)))
    reader.start()
    try:
        eventually(lambda: events)
        assert container.status == "running"
    finally:
        stop.set()
        reader.join()
    container.kill()
    assert container.attrs["State"]["OOMKilled"]
    assert len(list(engine.event_log.read(until=time.time(), filters=filters))) == 1


def test_an_images_check_holds_and_can_be_switched_off(engine: Engine, image: Image) -> None:
    container = engine.containers.create(image, FOREVER, network_mode="none")
    checked = container.commit("checked", changes=['HEALTHCHECK --interval=1s CMD ["true"]'])
    watched = start(engine, checked, FOREVER)
    assert watched.attrs["Config"]["Healthcheck"]["Test"] == ["CMD", "true"]
    eventually(lambda: watched.health == "healthy")
    unwatched = start(engine, checked, FOREVER, healthcheck={"test": ["NONE"]})
    assert "Health" not in unwatched.attrs["State"]


def test_the_process_that_checks_ends_with_the_container(engine: Engine, image: Image) -> None:
    container = start(engine, image, FOREVER, healthcheck=check("true"))
    eventually(lambda: container.health == "healthy")
    assert len(pids(f"watch-health {container.id}")) == 1
    container.remove(force=True)
    eventually(lambda: not pids(f"watch-health {container.id}"))


def test_a_killed_health_check_is_replaced_at_the_next_look_at_the_container(
    engine: Engine, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    container = start(engine, image, FOREVER, healthcheck=check("test ! -e /ill"))
    eventually(lambda: container.health == "healthy")
    (first,) = pids(f"watch-health {container.id}")
    os.kill(first, signal.SIGKILL)
    container.exec_run(["touch", "/ill"])
    monkeypatch.setattr(health_watcher, "WATCHER_STALE_AFTER", 0.5)
    eventually(lambda: container.health == "unhealthy")
    # Several looks may each have started one; all but one of these find the lock taken, and exit.
    eventually(lambda: [pid != first for pid in pids(f"watch-health {container.id}")] == [True])


@pytest.mark.parametrize(
    ("healthcheck", "words"),
    [
        ({"test": "true", "interval": 1000}, "Interval in Healthcheck cannot be less than 1ms"),
        ({"test": "true", "retries": -1}, "Retries in Healthcheck cannot be negative"),
        ({"test": "true", "colour": "red"}, "unknown field colour"),
    ],
)
def test_an_invalid_health_check_is_refused(
    engine: Engine, image: Image, healthcheck: dict[str, object], words: str
) -> None:
    with pytest.raises(InvalidInput, match=words):
        engine.containers.create(image, FOREVER, healthcheck=healthcheck)


# -- sudden deaths -----------------------------------------------------------------------------


def test_a_container_whose_monitor_was_killed_is_reported_as_exited(engine: Engine, image: Image) -> None:
    container = start(engine, image, FOREVER, network_mode="bridge")
    pid = container.pid
    os.kill(engine.runtime.monitor(container.id).conmon_pid, signal.SIGKILL)
    eventually(lambda: container.status == "exited")
    assert container.attrs["State"]["ExitCode"] == UNKNOWN_STATUS
    eventually(lambda: not Path(f"/proc/{pid}").exists())
    container.start()
    assert container.status == "running"


def test_a_container_whose_process_was_killed_has_137(engine: Engine, image: Image) -> None:
    container = start(engine, image, FOREVER)
    os.kill(container.pid, signal.SIGKILL)
    eventually(lambda: container.status == "exited")
    assert container.attrs["State"]["ExitCode"] == 137


def test_a_starter_killed_after_the_start_leaves_a_running_container(
    engine: Engine, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    container = engine.containers.create(image, FOREVER, healthcheck=check("true"))

    class Killed(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(engine.data.records, "save", die)  # the moment between `runc start` and the record
        with pytest.raises(Killed):
            container.start()
    assert container.status == "running"
    assert container.address
    assert container.exec_run(["echo", "hi"]).output == b"hi\n"
    container.kill()
    assert container.attrs["State"]["ExitCode"] == 137


def test_a_starter_killed_before_the_start_leaves_a_created_container(
    engine: Engine, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    container = engine.containers.create(image, FOREVER, network_mode="none")

    class Killed(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(engine.runtime.runc, "start", die)
        patch.setattr(start_module, "_roll_back", lambda *_: None)
        with pytest.raises(Killed):
            container.start()
    assert container.status == "created"
    container.start()
    assert container.status == "running"


def test_removal_by_force_does_not_need_the_monitor(
    engine: Engine, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals, "KILL_TIMEOUT", 0.5)
    container = start(engine, image, FOREVER, network_mode="bridge")
    os.kill(engine.runtime.monitor(container.id).conmon_pid, signal.SIGSTOP)
    container.remove(force=True)
    assert engine.containers.list(all=True) == []


def foreground(engine: Engine, command: list[str], *words: str) -> tuple[subprocess.Popen[bytes], Container]:
    """Start `run` in the foreground; return it with its container, which runs by then."""
    client = subprocess.Popen([*command, "run", *words], stdout=subprocess.PIPE)
    running = eventually(lambda: [one for one in engine.containers.list() if one.status == "running"])
    return client, running[0]


def test_a_container_whose_client_was_killed_is_removed_at_its_exit_as_rm_says(
    engine: Engine, image: Image, command: list[str]
) -> None:
    client, container = foreground(engine, command, "--rm", "-v", "/data", "busybox:1", *FOREVER)
    assert container.attrs["HostConfig"]["AutoRemove"] is True
    client.kill()
    client.communicate()
    assert container.status == "running"
    os.kill(container.pid, signal.SIGKILL)
    eventually(lambda: not (engine.data_root / "containers" / container.id).exists())  # no command looks at it
    eventually(lambda: not engine.volumes.list())
    assert not Path("/sys/fs/cgroup/pids/labctr", container.id).exists()


def test_the_exit_of_a_container_whose_client_was_killed_is_recorded(
    engine: Engine, image: Image, command: list[str]
) -> None:
    client, container = foreground(engine, command, "busybox:1", *FOREVER)
    client.kill()
    client.communicate()
    os.kill(container.pid, signal.SIGKILL)
    eventually(lambda: (record := engine.data.records.load(container.id)) and record.state is State.EXITED)
    assert container.attrs["State"]["ExitCode"] == 137


@pytest.mark.parametrize("moment", ["records.save", "records.forget"])
def test_a_volume_without_a_name_does_not_outlive_a_killed_create_or_remove(
    engine: Engine, image: Image, monkeypatch: pytest.MonkeyPatch, command: list[str], repository: Path, moment: str
) -> None:
    """create is killed after creating the volume and before the record; remove after the record, before the volume."""
    engine.containers.create(image, ["true"], volumes=["/kept", "named:/named"], network_mode="none")
    kept = [volume.name for volume in engine.volumes.list()]
    script = (
        "import os, sys; from pylab_container import Engine; e = Engine(sys.argv[1])\n"
        "def die(*_): os.kill(os.getpid(), 9)\n"
        f"moment = {moment!r}\n"
        "if moment == 'records.save': e.data.records.save = die\n"
        "one = e.containers.create('busybox:1', ['true'], volumes=['/a', 'named:/b'], network_mode='none')\n"
        "from pylab_container.volumes import removal; removal.remove_anonymous = die\n"
        "one.remove(v=True)\n"
    )
    killed = subprocess.run([command[0], "-c", script, str(engine.data_root)], cwd=repository, check=False)
    assert killed.returncode == -9
    assert len(engine.volumes.list()) == len(kept) + 1
    again = Engine(engine.data_root)
    assert [volume.name for volume in again.volumes.list()] == kept
    assert len(again.containers.list(all=True)) == 1
    assert again.fsck() == []


def test_the_client_gets_the_status_although_another_process_records_the_exit_first(
    engine: Engine, image: Image, command: list[str]
) -> None:
    client, container = foreground(engine, command, "--rm", "busybox:1", *OBEDIENT)
    process = container.pid
    eventually(lambda: container.logs() == b"ready\n")  # so the trap is set
    client.send_signal(signal.SIGSTOP)
    os.kill(process, signal.SIGTERM)
    eventually(lambda: not engine.containers.list(all=True))
    client.send_signal(signal.SIGCONT)
    assert client.wait(PATIENCE) == 7
    client.communicate()


def processes(engine: Engine, pid: int) -> list[int]:
    """Return a process, its descendants, and those that name this engine: monitors, runc, exit commands."""
    found = [pid]
    for one in found:
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{one}/task").iterdir():
                found += [int(child) for child in (thread / "children").read_text().split()]
    named = {*pids(str(engine.runtime.path)), *pids(str(engine.data_root))}
    return sorted({*found, *named} - {os.getpid()})


@pytest.mark.parametrize("victim", ["engine", "anything"])
def test_a_run_killed_at_any_moment_is_reported_truthfully_and_leaves_nothing(
    engine: Engine, image: Image, command: list[str], seed: int, victim: str, *, stress: bool
) -> None:
    """The engine's fixture finds mounts, veths, cgroups and monitors that are left."""
    sys.stdout.write(f"--seed {seed}\n")
    chance = random.Random(seed)
    engine.networks.create("lab")
    seen = set()
    for _ in range(100 if stress else 4):
        words = ["run", *chance.choice([["-d"], ["--rm"], ["-d", "--rm", "--network", "lab"]]), "-P", "--expose", "80"]
        starter = subprocess.Popen(
            [*command, *words, "busybox:1", *FOREVER],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(chance.uniform(0.1, 0.7))
        targets = [starter.pid] if victim == "engine" else processes(engine, starter.pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(chance.choice(targets), signal.SIGKILL)
        if chance.random() < 0.5:
            starter.kill()
        for container in engine.containers.list(all=True):
            seen.add(container.short_id)
            with contextlib.suppress(ContainerNotFound):  # --rm
                state = container.attrs["State"]
                assert state["Running"] == (state["Pid"] != 0)
                if state["Pid"]:
                    eventually(partial(_is_its_process, state["Pid"]))
            container.remove(force=True)
        starter.kill()
        starter.wait()
    Engine(engine.data_root)  # the next engine removes what killed ones left
    for container in engine.containers.list(all=True):
        container.remove(force=True)
    assert engine.fsck() == []
    engine.networks.get("lab").remove()
    tables = subprocess.run(["nft", "list", "tables"], check=True, capture_output=True, text=True).stdout
    assert not [short_id for short_id in seen if short_id in tables]


def _is_its_process(pid: int) -> bool:
    """Return whether a pid is a container's first process, or has exited since; at first it is the runtime."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True
    return command in (b"sleep\x001000\0", b"")


KILLED_RUNTIME = """#!/bin/sh
# The real one does its work; then this process is killed before it could report that.
case " $* " in
    *" {action} "*) {runc} "$@" & wait $!; kill -9 $$ ;;
    *) exec {runc} "$@" ;;
esac
"""


@pytest.mark.parametrize("action", ["create", "exec"])
def test_a_runtime_that_was_killed_does_not_block_its_caller(
    engine: Engine, image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    fake = tmp_path / "bin/runc"
    fake.parent.mkdir()
    fake.write_text(KILLED_RUNTIME.format(action=action, runc=programs.find("runc")))
    fake.chmod(0o755)
    container = engine.containers.create(image, ["sleep", "1000"], network_mode="none")
    if action == "exec":
        container.start()
    with monkeypatch.context() as patched:
        patched.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
        attempt = container.start if action == "create" else partial(container.exec_run, ["sleep", "100"])
        with pytest.raises(RuntimeFailed, match="the runtime was killed"):
            attempt()
    if action == "create":
        assert container.status == "created"
        container.start()
    eventually(lambda: container.exec_run("ps").output.count(b"sleep 100") == 1)
    container.remove(force=True)


def test_the_exit_status_outlives_a_crash_between_the_release_and_the_record(
    engine: Engine, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    container = engine.containers.create(image, ["sh", "-c", "exit 3"], network_mode="none")

    class Killed(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise Killed

    container.start_attached().close()
    engine.runtime.monitor(container.id).wait(PATIENCE)
    with monkeypatch.context() as patch:
        patch.setattr(engine.data.records, "save", die)
        with pytest.raises(Killed):
            read_settled(engine.data, engine.runtime, container.id)
    assert container.attrs["State"]["ExitCode"] == 3
    assert engine.fsck() == []


def test_a_create_that_fails_is_claimed_until_it_is_rolled_back(
    engine: Engine, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed: list[set[str]] = []

    def delete(data: DataRoot, record: ContainerRecord, *, volumes: bool) -> None:
        claimed.append(data.layers.leases.claimed("writable") & {record.id})
        deletion.delete(data, record, volumes=volumes)

    monkeypatch.setattr("pylab_container.containers.create.delete", delete)
    monkeypatch.setattr(engine.data.records, "save", lambda _: (_ for _ in ()).throw(OSError("the disk fails")))
    with pytest.raises(OSError, match="the disk fails"):
        engine.containers.create(image, ["true"], network_mode="none")
    assert [len(ids) for ids in claimed] == [1]
    monkeypatch.undo()
    assert engine.fsck() == []
