"""Files that are written completely or not at all, and locks between processes."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import os
from collections.abc import Iterator
from pathlib import Path

from pylab_container.host import reserve
from pylab_container.host.random_ids import random_hex

TEMPORARY = ".tmp-"
"""Prefix of the names of files that are being written."""


def write_atomic(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Replace path by a file that holds data; other processes see the old file or the new one.

    The same holds after a crash: a neighbour is written, flushed with fsync(2) and renamed over path (rename(2)). A
    crash may leave the neighbour, which is named `.tmp-…` as moby's ioutils.AtomicFileWriter names it, and which
    no process reads. On a full file system the file is made from its reserve (host/reserve.py).
    """
    try:
        _write_new(path, data, mode)
    except OSError as error:
        # The write may belong to a removal, which would free the space that is missing.
        if not (reserve.is_full(error) and reserve.replace(path, data, mode=mode)):
            raise


def _write_new(path: Path, data: bytes, mode: int) -> None:
    temporary, fd = _open_temporary(path, mode)
    try:
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            # Before the rename: a file system may commit the rename earlier than the data, and a power failure in
            # between would leave an empty file under the final name.
            os.fsync(fd)
            os.rename(temporary, path)  # in the block: closing drops the lock, and an unlocked file may be deleted
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _open_temporary(path: Path, mode: int) -> tuple[Path, int]:
    """Create a file beside path and lock it: an unlocked one belongs to a crashed process."""
    while True:
        temporary = path.with_name(f"{TEMPORARY}{path.name}{random_hex(4)}")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        fcntl.flock(fd, fcntl.LOCK_EX)
        if os.fstat(fd).st_nlink:  # else a cleanup deleted it between open(2) and flock(2)
            return temporary, fd
        os.close(fd)


def read_text_or_empty(path: str | Path) -> str:
    """Return a text file; "" if it does not exist or cannot be read.

    For files of /proc, /sys and /etc, which depend on the kernel's configuration and on processes that may exit.
    """
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def discard(path: Path) -> None:
    """Delete a file of write_atomic() and its temporary files. Idempotent; no process may be writing it."""
    for file in (path, *path.parent.glob(f"{TEMPORARY}{glob.escape(path.name)}*")):
        file.unlink(missing_ok=True)


def rewrite(path: Path, text: str) -> None:
    """Write a file in place, for a file that is bind-mounted into containers."""
    # A bind mount refers to the inode, so a renamed file would not appear in the container. Truncated after the write
    # and not before, /etc/hosts and /etc/resolv.conf are at no moment empty for a process that reads them.
    with open(path, "r+b") as file:
        file.write(text.encode())
        file.truncate()


def make_directory(path: Path, mode: int) -> Path:
    """Create a directory with exactly this mode and return it. Raises FileExistsError."""
    path.mkdir(mode=mode)
    path.chmod(mode)  # mkdir(2) applies the umask: a strict one would hide a container's / from its users
    return path


@contextlib.contextmanager
def locked(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold a flock(2) on a directory or a lock file while the block runs.

    shared  let other processes hold it, too, if they also take it shared

    The kernel releases the lock when the process exits, also after SIGKILL. Lock files are never deleted: otherwise a
    process could wait for the lock of a deleted file while another one locks a new file of the same name.
    """
    try:
        fd = open_lock(path)
    except FileNotFoundError:
        yield  # on a read-only file system no process can change what the lock guards
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def try_locked(path: Path) -> Iterator[bool]:
    """Try to take an exclusive flock(2) on an existing file; yield False if another process holds one.

    The lock is held while the block runs. Raises FileNotFoundError.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)


def open_lock(path: Path) -> int:
    """Open a directory, or a lock file that is created if missing, for flock(2); the caller closes it.

    Raises FileNotFoundError if it is missing on a read-only file system.
    """
    if path.is_dir():
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno == errno.EROFS:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        if not (reserve.is_full(error) and reserve.create(path)):
            raise
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
