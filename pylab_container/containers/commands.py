"""The commands of labctr that outlive the process that started a container.

labctr container settle        the exit command, which the monitor runs after the exit (exit_command.py)
labctr container watch-health  beside a container with a health check (health_checks.py)
"""

from __future__ import annotations

import os
import sys

from pylab_container.host import programs
from pylab_container.store.container_store import ContainerRecord
from pylab_container.store.data_root import DataRoot


def exit_command(data: DataRoot, container_id: str, *, unless: int = 0) -> list[str]:
    """Build the command that records a container's exit.

    unless  the pid of a process that will do so itself. While it lives the command ends at once: a shell finds that
            out in a millisecond, Python would need a hundred.
    """
    command = [*_labctr(data), "container", "settle", container_id]
    if unless:
        return ["/bin/sh", "-c", 'kill -0 "$0" 2> /dev/null || exec "$@"', str(unless), *command]
    return command


def health_command(data: DataRoot, record: ContainerRecord) -> list[str]:
    """Build the command that checks a container's health during the run of its record."""
    return [*_labctr(data), "container", "watch-health", record.id, record.started_at]


def _labctr(data: DataRoot) -> list[str]:
    place = ["--root", str(data.path), "--storage-driver", data.driver.name]
    return [sys.executable, "-m", "pylab_container", *place]


def spawn(command: list[str]) -> None:
    """Start a program that outlives this process, in a session of its own (setsid(1))."""
    environment = {"PATH": os.environ.get("PATH", os.defpath)}
    with programs.spawn(["setsid", "--fork", *command], environment=environment) as process:
        process.wait()
