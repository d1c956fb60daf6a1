"""Fork an operation and kill it half-way; find processes by their command line or by a lock that they wait for."""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from pylab_container import Engine
from pylab_container.engine.container import Container
from pylab_container.runtime.monitor import Monitor
from tests.support.waiting import eventually


def kill(root: Path, operation: Callable[[Engine], None], delay: float) -> None:
    """Repeat an operation on a data root in a child process, and kill the child after delay seconds.

    Raises AssertionError with the child's traceback if the operation failed.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            engine = Engine(root)
            os.write(writing, b".")
            while True:
                operation(engine)
        except BaseException:  # noqa: BLE001 (the parent reports it)
            os.write(writing, traceback.format_exc().encode())
        finally:
            os._exit(1)
    os.close(writing)
    with open(reading, "rb", buffering=0) as pipe:
        assert pipe.read(1) == b"."
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.set_blocking(pipe.fileno(), False)
        assert not (failure := pipe.read()), failure.decode()


def command_lines() -> Iterator[str]:
    """Return the command lines of all processes; each argument ends with NUL (proc_pid_cmdline(5))."""
    return (line for _, line in _processes())


def pids(words: str) -> list[int]:
    """Return the processes whose command line contains words, as pgrep -f does, which is not installed everywhere."""
    return [pid for pid, line in _processes() if words in line.replace("\0", " ")]


def _processes() -> Iterator[tuple[int, str]]:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            yield int(process.name), (process / "cmdline").read_text(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue  # it exited since the listing


def awaits_lock(path: Path) -> bool:
    """Return whether a process is blocked in flock(2) on a file: "->" in /proc/locks (proc_locks(5))."""
    status = path.stat()
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    locks = Path("/proc/locks").read_text().splitlines()
    return any("-> FLOCK" in line and place in line.split() for line in locks)


def kill_container(engine: Engine, container: Container) -> None:
    """Kill the container's process and its monitor, so that no process records the exit."""
    monitor = Monitor(
        container.id, bundle=engine.runtime.path / container.id, exit_directory=engine.runtime.path / "exits"
    )
    for pid in (monitor.conmon_pid, container.pid):
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not monitor.alive())
