"""Record with fanotify(7) which programs of a fresh system the kit executes.

The kernel waits for a permission before it opens a file for execution (FAN_OPEN_EXEC_PERM). At that moment
/proc/<pid>/exe and cmdline still belong to the calling program. Executions count if the kit's own Python or scripts
call the program, directly or through a shell or a wrapper such as `unshare` or `timeout`. Executions by other programs
do not count: Debian packages declare the dependencies of their own programs.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import select
import struct
import threading
from pathlib import Path

# fanotify_init(2), fanotify_mark(2), /usr/include/linux/fanotify.h
_FAN_CLOEXEC = 0x1
_FAN_CLASS_CONTENT = 0x4
_FAN_UNLIMITED_QUEUE = 0x10
_FAN_MARK_ADD = 0x1
_FAN_MARK_FILESYSTEM = 0x100
_FAN_OPEN_EXEC_PERM = 0x40000
_FAN_ALLOW = 0x1
_AT_FDCWD = -100
# struct fanotify_event_metadata: length, version, reserved, size of the metadata, mask, fd, pid
_EVENT = struct.Struct("=IBBHQii")
_RESPONSE = struct.Struct("=iI")
_BUFFER_BYTES = 1 << 16

# Programs that execute another program for their caller. Interpreters of Debian's own scripts (perl) are not included.
_WRAPPERS = {
    *("bash", "chroot", "dash", "env", "find", "ip", "nice", "nohup", "nsenter", "prlimit", "script", "setpriv"),
    *("setsid", "sh", "stdbuf", "taskset", "timeout", "unshare", "xargs"),
}
_PYTHON = re.compile(r"python3(\.\d+)?")


class Executions:
    """Collect in `paths` the programs that the kit executes while the block runs.

    init     pid of a process of the system, from which its root and its PID namespace are taken
    project  path of the kit in the system
    """

    def __init__(self, init: int, project: str) -> None:
        self.paths: set[str] = set()
        self._project = project
        self._namespace = os.readlink(f"/proc/{init}/ns/pid")
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._stop, self._stopped = os.pipe()
        flags = _FAN_CLOEXEC | _FAN_CLASS_CONTENT | _FAN_UNLIMITED_QUEUE
        self._fd = self._libc.fanotify_init(flags, os.O_RDONLY | os.O_CLOEXEC | os.O_LARGEFILE)
        self._check(self._fd)
        mask = ctypes.c_uint64(_FAN_OPEN_EXEC_PERM)
        root = f"/proc/{init}/root".encode()
        self._check(self._libc.fanotify_mark(self._fd, _FAN_MARK_ADD | _FAN_MARK_FILESYSTEM, mask, _AT_FDCWD, root))
        self._thread = threading.Thread(target=self._answer, name="executions", daemon=True)

    def _check(self, result: int) -> None:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"fanotify: {os.strerror(number)}")

    def __enter__(self) -> Executions:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._stopped)
        self._thread.join()
        os.close(self._fd)  # the kernel then allows all pending events
        os.close(self._stop)

    def _answer(self) -> None:
        while self._stop not in select.select([self._fd, self._stop], [], [])[0]:
            events = os.read(self._fd, _BUFFER_BYTES)
            while events:
                length, _, _, _, _, fd, pid = _EVENT.unpack_from(events)
                events = events[length:]
                try:
                    with contextlib.suppress(OSError):  # the process was killed
                        if self._is_called_by_the_kit(pid):
                            self.paths.add(os.readlink(f"/proc/self/fd/{fd}"))
                finally:
                    os.write(self._fd, _RESPONSE.pack(fd, _FAN_ALLOW))
                    os.close(fd)

    def _is_called_by_the_kit(self, pid: int) -> bool:
        """Return whether the first ancestor that is not a wrapper belongs to the kit, starting at pid itself."""
        if os.readlink(f"/proc/{pid}/ns/pid") != self._namespace:
            return False  # it runs in a container of the system
        while os.readlink(f"/proc/{pid}/ns/pid") == self._namespace:
            process = Path(f"/proc/{pid}")
            program = (process / "exe").readlink().name
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if _PYTHON.fullmatch(program):
                return any(word.startswith(f"{self._project}/") for word in words[:2])
            if program not in _WRAPPERS:
                return False
            pid = int(re.findall(r"^PPid:\t(\d+)$", (process / "status").read_text(), re.MULTILINE)[0])
        return True  # the parent is outside the system: it is one of the README's two commands
