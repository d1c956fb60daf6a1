"""A reserve of files on a file system, so that what frees space works when the file system is full.

    <top>/.reserve/slot-0 … slot-15     files full of zeros, which no object uses

Stopping or removing something writes a little: a record, a claim, a lock file. On a full file system such a write
takes one of these files: it has an inode and blocks already. It is overwritten in place, cut to its new length and
renamed to where it belongs, none of which needs free space. A kill in between leaves a slot with other content, which
means nothing. The process that has taken a slot, and every engine that starts, make new ones of what is free by then.

A path's reserve is that of the nearest directory above it that has one. Without a reserve the write fails as it
would have. A copy-on-write file system (btrfs, ZFS) needs free blocks to overwrite a file, too: there the reserve only
helps against a lack of inodes.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

NAME = ".reserve"
"""The directory of a reserve."""
_SLOTS = 16
_SLOT_SIZE = 64 << 10
"""Bytes. Records are smaller; a larger file takes the blocks of further slots."""


def is_full(error: OSError) -> bool:
    """Whether a file system, or the user's quota of it, is what had no room."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def fill(top: Path) -> None:
    """Make the reserve of a directory, as far as there is room. Never fails."""
    directory = top / NAME
    with contextlib.suppress(OSError):  # the usual case, without a lock
        if all((directory / f"slot-{number}").stat().st_size >= _SLOT_SIZE for number in range(_SLOTS)):
            return
    with contextlib.suppress(OSError):
        directory.mkdir(mode=0o700, exist_ok=True)
        with _locked(directory):
            _fill(directory)


def refill(path: Path) -> None:
    """Take back into a path's reserve what a removal has freed, before another program has it. Never fails."""
    if directory := _directory(path):
        fill(directory.parent)


def _directory(path: Path) -> Path | None:
    """The reserve of a path."""
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
    """Replace path by a file that holds data, in one step, with what the reserve has. False if that is not enough."""
    with _slots(path) as slots:
        while slots:
            try:
                _overwrite(slots[0], data, mode)
                slots[0].rename(path)
            except OSError as error:
                if not is_full(error):
                    raise
                slots.pop().unlink()  # its blocks are what the first one lacks
            else:
                return True
    return False


def _overwrite(slot: Path, data: bytes, mode: int) -> None:
    fd = os.open(slot, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(fd, "r+b") as file:
        file.write(data)
        file.truncate()
        file.flush()
        os.fchmod(fd, mode)
        os.fsync(fd)


def create(path: Path) -> bool:
    """Make an empty file, unless there is one by now, with an inode of the reserve. False if it has none."""
    with _slots(path) as slots:
        if not slots:
            return False
        slot = slots.pop()
        os.truncate(slot, 0)
        slot.chmod(0o600)
        with contextlib.suppress(FileExistsError):
            os.link(slot, path)  # never over a file: two processes would hold locks on two files of one name
        slot.unlink()
        return True


@contextlib.contextmanager
def _slots(path: Path) -> Iterator[list[Path]]:
    """The slots of a path's reserve, the largest first; in the end it is filled again."""
    directory = _directory(path)
    if directory is None:
        yield []
        return
    with _locked(directory):
        sizes = {}
        for slot in directory.glob("slot-*"):
            status = slot.lstat()
            if status.st_nlink > 1:  # create() was killed: it is a lock file now
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
