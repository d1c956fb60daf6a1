"""What changed in a layer, path by path, found out from an overlay upper directory and what lies below it."""

from __future__ import annotations

import contextlib
import os
import posixpath
import stat
from collections.abc import Sequence
from pathlib import Path

from pylab_container.store.whiteouts import is_opaque, is_whiteout

MODIFIED, ADDED, DELETED = 0, 1, 2
"""As the Engine API counts them (GET /containers/{id}/changes)."""


def overlay_changes(upper: Path, lowers: Sequence[Path]) -> dict[str, int]:
    """Absolute paths and kinds of what an upper directory changes; lowers from the uppermost down."""
    found: dict[str, int] = {}
    waiting = [("", list(lowers))]  # a stack of our own: trees may be deeper than Python's
    while waiting:
        directory, below = waiting.pop()
        for entry in os.scandir(upper / directory):
            path = posixpath.join(directory, entry.name)
            merged = _merged(below, path)
            _compare(entry, path, below, merged, found)
            if entry.is_dir(follow_symlinks=False):
                waiting.append((path, [] if is_opaque(entry.path) else merged))
    return found


def _compare(
    entry: os.DirEntry[str], path: str, lowers: Sequence[Path], merged: Sequence[Path], found: dict[str, int]
) -> None:
    """Compare an entry of the upper directory with what the lower ones have at its path."""
    status, below = entry.stat(follow_symlinks=False), _below(lowers, path)
    if is_whiteout(entry.path, status):
        if below is not None:
            found[f"/{path}"] = DELETED
        return
    if below is None:
        found[f"/{path}"] = ADDED
    elif differs(status, below):
        found[f"/{path}"] = MODIFIED
    is_directory = stat.S_ISDIR(status.st_mode)
    if merged and (not is_directory or is_opaque(entry.path)):
        hidden = _names(merged, path) - (set(os.listdir(entry.path)) if is_directory else set())
        found.update({f"/{path}/{name}": DELETED for name in hidden})


def _below(lowers: Sequence[Path], path: str) -> os.stat_result | None:
    """What the image has at a path, None where it has nothing. All lowers have the directory that it is in."""
    for lower in lowers:
        with contextlib.suppress(FileNotFoundError):
            status = os.lstat(lower / path)
            return None if is_whiteout(str(lower / path), status) else status
    return None


def _merged(lowers: Sequence[Path], path: str) -> list[Path]:
    """The lowers whose directories at path are seen as one: down to the first that hides those under it.

    No link is followed, so that what is looked at never leaves the layers.
    """
    found = []
    for lower in lowers:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISDIR(os.lstat(lower / path).st_mode):
                break
            found.append(lower)
            if is_opaque(str(lower / path)):
                break
    return found


def _names(merged: Sequence[Path], directory: str) -> set[str]:
    """What the image has in a directory that these lowers make up."""
    names = {name for lower in merged for name in os.listdir(lower / directory)}
    return {name for name in names if _below(merged, posixpath.join(directory, name)) is not None}


def differs(one: os.stat_result, other: os.stat_result) -> bool:
    """Whether a path changed itself; a directory's time does not count, it tells of what is inside."""
    same = (one.st_mode, one.st_uid, one.st_gid, one.st_rdev) == (
        other.st_mode,
        other.st_uid,
        other.st_gid,
        other.st_rdev,
    )
    if same and not stat.S_ISDIR(one.st_mode):
        return (one.st_mtime_ns, one.st_size) != (other.st_mtime_ns, other.st_size)
    return not same
