"""Failures of the machine: errors that name its defect, and what to do about it.

A start, a build or a new network may be the first operation that needs a program, a file system or a kernel feature
that the machine lacks. After such a failure, explain() runs the checks of check.py and adds their results to the hint.
"""

from __future__ import annotations

import errno
from pathlib import Path

from pylab_container.errors import InvalidInput, LabError, MissingProgram, RuntimeFailed
from pylab_container.maintenance.check import check


def explain(error: BaseException, data_root: Path) -> None:
    """Add the machine's missing features to the hint of an error that they may have caused."""
    if not isinstance(error, LabError) or type(error) not in (RuntimeFailed, MissingProgram):
        return
    if error.hint and not isinstance(error, MissingProgram):
        return  # the hint of the failed operation is more precise
    failed = [each for each in check(data_root) if each.needed and not each.ok and each.remedy not in error.hint]
    remedies = [f"{each.name}: {each.remedy}" for each in failed]
    error.hint = "; ".join(filter(None, [error.hint, *remedies])) or "labctr system check finds nothing missing"


DISK_ERRORS = {
    errno.EROFS: ("read-only file system", "mount it writable (mount -o remount,rw …), or choose another data root"),
    errno.ENOSPC: (
        "no space left on device",
        "free some space or inodes where the data root is, or the output goes: labctr system prune",
    ),
    errno.EDQUOT: ("disk quota exceeded", "free some space, or have the quota raised: labctr system prune"),
}
"""errno → (message, hint) for a file system that refuses every write."""

NAME_ERRORS = {
    errno.ENAMETOOLONG: "file name too long",
    errno.ELOOP: "too many levels of symbolic links",
}
"""errno → message for an invalid path."""
MAX_SHOWN_NAME = 80  # characters of a path that an error shows


def of_disk(error: OSError) -> RuntimeFailed | None:
    """Return the error to show for a full or read-only file system; None for another cause."""
    if error.errno not in DISK_ERRORS:
        return None
    message, hint = DISK_ERRORS[error.errno]
    return RuntimeFailed(f"{error.filename}: {message}" if error.filename else message, hint=hint)


def of_name(error: OSError) -> InvalidInput | None:
    """Return the error to show for an invalid path; None for another cause."""
    if error.errno not in NAME_ERRORS:
        return None
    name = str(error.filename or "")
    shown = name if len(name) <= MAX_SHOWN_NAME else f"{name[:MAX_SHOWN_NAME]}…"
    message = NAME_ERRORS[error.errno]
    return InvalidInput(f"{shown}: {message}" if shown else message, hint="choose a shorter name")


def refusal(error: OSError) -> LabError | None:
    """Return the error to show if the file system refused a system call; else None."""
    return of_disk(error) or of_name(error)
