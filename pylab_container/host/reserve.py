"""Reserved files, so that operations that free space work on a full file system.

    <top>/.reserve/slot-0 … slot-15     files of zeros that belong to no object

To stop or remove an object, a few small files must be written: a record, a claim, a lock file. On a full file system
such a write takes a slot, which has an inode and blocks already. The slot is overwritten in place, truncated to its new
length and renamed to its destination; none of these needs free space. A crash in between leaves a slot with other
content, which is never read. The process that took a slot refills the reserve as far as there is room, and so does
every engine that starts.

The reserve of a path is that of the nearest directory above it that has one. Without a reserve the write fails with
ENOSPC. A copy-on-write file system (btrfs, ZFS) needs free blocks to overwrite a file, too: there the reserve helps
only against a lack of inodes.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

NAME = ".reserve"
"""Name of the directory of a reserve."""

_SLOTS = 16
_SLOT_SIZE = 64 << 10  # bytes; records are smaller, and a larger file takes the blocks of further slots


def is_full(error: OSError) -> bool:
    """Report whether an operation failed because the file system, or the user's quota on it, is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def fill(top: Path) -> None:
    """Create or refill the reserve of a directory, as far as there is room. Never raises OSError."""
    directory = top / NAME
    with contextlib.suppress(OSError):  # the usual case: the reserve is full, and no lock is needed
        if all((directory / f"slot-{number}").stat().st_size >= _SLOT_SIZE for number in range(_SLOTS)):
            return
    with contextlib.suppress(OSError):
        directory.mkdir(mode=0o700, exist_ok=True)
        with _locked(directory):
            _fill(directory)


def refill(path: Path) -> None:
    """Refill a path's reserve after a removal, before another program takes the space."""
    if directory := _directory(path):
        fill(directory.parent)


def _directory(path: Path) -> Path | None:
    """Return the reserve of a path, None if it has none."""
    return next((top / NAME for top in path.parents if (top / NAME).is_dir()), None)


def _fill(directory: Path) -> None:
    with contextlib.suppress(OSError):
        for number in range(_SLOTS):
            fd = os.open(directory / f"slot-{number}", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                while (missing := _SLOT_SIZE - os.fstat(fd).st_size) > 0:
                    os.write(fd, bytes(missing))
            finally:
                os.close(fd)


def replace(path: Path, data: bytes, *, mode: int) -> bool:
    """Atomically replace path by a file that holds data, using the reserve. Return False if that is too small."""
    with _slots(path) as slots:
        while slots:
            try:
                _overwrite(slots[0], data, mode)
                slots[0].rename(path)
            except OSError as error:
                if not is_full(error):
                    raise
                slots.pop().unlink()  # frees its blocks for the first slot, which then grows
            else:
                return True
    return False


def _overwrite(slot: Path, data: bytes, mode: int) -> None:
    # Without O_TRUNC, which would free the blocks before the write: another program could take them.
    fd = os.open(slot, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(fd, "r+b") as file:
        file.write(data)
        file.truncate()
        file.flush()
        os.fchmod(fd, mode)
        os.fsync(fd)


def create(path: Path) -> bool:
    """Create an empty file with an inode of the reserve, unless it exists. Return False if the reserve is empty."""
    with _slots(path) as slots:
        if not slots:
            return False
        slot = slots.pop()
        os.truncate(slot, 0)
        slot.chmod(0o600)
        with contextlib.suppress(FileExistsError):
            # link(2) fails if path exists, where rename(2) would replace it: after a replacement two processes could
            # hold a lock of the same name on two inodes.
            os.link(slot, path)
        slot.unlink()
        return True


@contextlib.contextmanager
def _slots(path: Path) -> Iterator[list[Path]]:
    """Lock a path's reserve and yield its slots, largest first; refill it when the block ends."""
    directory = _directory(path)
    if directory is None:
        yield []
        return
    with _locked(directory):
        sizes = {}
        for slot in directory.glob("slot-*"):
            status = slot.lstat()
            if status.st_nlink > 1:  # a crash in create() after link(2): the inode is a lock file now
                slot.unlink()
            else:
                sizes[slot] = status.st_size
        yield sorted(sizes, key=lambda slot: sizes[slot], reverse=True)
        _fill(directory)


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
