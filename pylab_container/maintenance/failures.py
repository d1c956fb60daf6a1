"""When the machine is what fails, the error says what it lacks.

A start, a build and a new network are where a machine first shows that a program, a file system or a part of the
kernel is missing. Then maintenance/check.py looks, and its findings go into the error's hint.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from pylab_container.errors import InvalidInput, LabError, MissingProgram, RuntimeFailed


def explain(error: BaseException, data_root: Path) -> None:
    """Add what the machine lacks to the hint of an error, if the machine may be what failed."""
    if not isinstance(error, LabError) or type(error) not in (RuntimeFailed, MissingProgram):
        return
    if error.hint and not isinstance(error, MissingProgram):
        return  # whoever raised it knows better
    from pylab_container.maintenance.check import check  # 5 ms, which only a failure is worth

    missing = [one for one in check(data_root) if one.needed and not one.ok and one.remedy not in error.hint]
    lacking = [f"{one.name}: {one.remedy}" for one in missing]
    error.hint = "; ".join(filter(None, [error.hint, *lacking])) or "labctr system check finds nothing missing"


_OF_DISKS = {
    errno.EROFS: ("read-only file system", "mount it writable (mount -o remount,rw …), or choose another data root"),
    errno.ENOSPC: (
        "no space left on device",
        "free some space or inodes where the data root is, or the output goes: labctr system prune",
    ),
    errno.EDQUOT: ("disk quota exceeded", "free some space, or have the quota raised: labctr system prune"),
}


def of_disk(error: OSError) -> RuntimeFailed | None:
    """The error to show for a system call that a file system refused as a whole; None for another cause."""
    if error.errno not in _OF_DISKS:
        return None
    message, hint = _OF_DISKS[error.errno]
    return RuntimeFailed(f"{error.filename}: {message}" if error.filename else message, hint=hint)


_OF_NAMES = {
    errno.ENAMETOOLONG: "file name too long",
    errno.ELOOP: "too many levels of symbolic links",
}
_LONGEST_NAME = 80  # characters of a file's name that an error shows


def of_name(error: OSError) -> InvalidInput | None:
    """The error to show for a name that no file can have; None for another cause."""
    if error.errno not in _OF_NAMES:
        return None
    name = str(error.filename or "")
    shown = name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…"
    message = _OF_NAMES[error.errno]
    return InvalidInput(f"{shown}: {message}" if shown else message, hint="choose a shorter name")


def refusal(error: OSError) -> LabError | None:
    """The error to show for what a file system refused; None for any other failure."""
    return of_disk(error) or of_name(error)


@contextlib.contextmanager
def explaining(data_root: Path) -> Iterator[None]:
    """explain() what fails in the block."""
    try:
        yield
    except LabError as error:
        explain(error, data_root)
        raise
