"""The init program of --init: the container's first process, which starts the command as its child.

As process 1 it is the parent of every orphaned process of the container and reaps it (pid_namespaces(7)). It also
forwards signals: the kernel delivers to process 1 only signals for which that process has a handler, except SIGKILL
and SIGSTOP from outside, and many programs have none for SIGTERM.
"""

from __future__ import annotations

import os

from msgspec.structs import replace

from pylab_container.errors import MissingProgram
from pylab_container.host import programs
from pylab_container.oci import bundle
from pylab_container.store.container_store import ContainerRecord

INIT_DESTINATION = "/sbin/docker-init"
# Static programs first: a dynamically linked one, such as Debian's tini, needs the C library in the image (ld.so(8)).
_INIT_PROGRAMS = ("docker-init", "tini-static", "tini", "catatonit")


def init_mount(record: ContainerRecord) -> list[bundle.Mount]:
    """Return the read-only bind mount of the host's init program, or no mount without --init."""
    if not record.host_config.init:
        return []
    options = ("rbind", "rprivate", "ro")
    return [bundle.Mount(source=_init_program(), destination=INIT_DESTINATION, type="bind", options=options)]


def init_command(record: ContainerRecord, process: bundle.Process) -> bundle.Process:
    """Return a process with the init program before its command, or unchanged without --init."""
    if not record.host_config.init:
        return process
    words = (INIT_DESTINATION,) if _init_program().endswith("catatonit") else (INIT_DESTINATION, "--")
    return replace(process, argv=(*words, *process.argv))


def _init_program() -> str:
    """The path of the host's init program. Raises MissingProgram."""
    for name in _INIT_PROGRAMS:
        try:
            path = programs.find(name)
        except MissingProgram:
            continue
        return os.path.realpath(path)
    raise MissingProgram("no init program is installed for --init", hint="apt-get install tini")
