"""Files written whole or not at all, and locks between processes."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from pylab_container.host import reserve


def write_atomic(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Replace path by a file that holds data, in one step for every other process.

    A crash leaves the old content or the new one, never part of it: write a neighbour,
    fsync it, rename it over. What a crash leaves behind is named `.tmp-…`, as moby's
    ioutils.AtomicFileWriter names it, and is never read. While it is written it is locked,
    so that the next command deletes only files that killed commands left.
    If the file system is full, the file comes from its reserve (host/reserve.py).
    """
    try:
        _write_new(path, data, mode)
    except OSError as error:
        if not (reserve.is_full(error) and reserve.replace(path, data, mode=mode)):
            raise


def _write_new(path: Path, data: bytes, mode: int) -> None:
    temporary, fd = _open_temporary(path, mode)
    try:
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(fd)
            os.rename(temporary, path)  # while it is locked: an unlocked one is deleted by the next command
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


TEMPORARY = ".tmp-"
"""How the names of files begin that are being written."""


def _open_temporary(path: Path, mode: int) -> tuple[Path, int]:
    """A new file beside path, open and locked."""
    while True:
        temporary = path.with_name(f"{TEMPORARY}{path.name}{secrets.randbelow(10**9)}")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        fcntl.flock(fd, fcntl.LOCK_EX)
        if os.fstat(fd).st_nlink:  # before the lock it looked like a file that a killed command left
            return temporary, fd
        os.close(fd)


def discard(path: Path) -> None:
    """Delete a file of write_atomic() and what crashes have left of others for it; no error where there is none.

    Nobody may be writing it.
    """
    for one in (path, *path.parent.glob(f"{TEMPORARY}{glob.escape(path.name)}*")):
        one.unlink(missing_ok=True)


@contextlib.contextmanager
def try_locked(path: Path) -> Iterator[bool]:
    """Try for an exclusive flock(2) on path, which must exist; yields whether nobody else holds one.

    Where it does, the lock is held while the block runs. Raises FileNotFoundError.
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


def rewrite(path: Path, text: str) -> None:
    """Write a file in place, where it is mounted by its inode. It is at no moment empty."""
    with open(path, "r+b") as file:
        file.write(text.encode())
        file.truncate()


@contextlib.contextmanager
def locked(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold an exclusive (or shared) flock(2) on path while the block runs; path is a directory or a lock file.

    The kernel drops the lock when the process dies, however it dies. The file itself
    stays: removing a lock file would let two processes hold locks on two files of one name.
    """
    try:
        fd = open_lock(path)
    except FileNotFoundError:
        yield  # on a read-only file system, where no process can change what the lock would guard
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def open_lock(path: Path) -> int:
    """Open a lock file, made if missing, or a directory, for flock(2); the caller closes it.

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
