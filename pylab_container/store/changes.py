"""What changed in a layer, path by path, found out from an overlay upper directory and what lies below it."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from pylab_container.host.descent import Descent, Entry, opened
from pylab_container.store.whiteouts import is_opaque, is_whiteout

MODIFIED, ADDED, DELETED = 0, 1, 2
"""As the Engine API counts them (GET /containers/{id}/changes)."""


def overlay_changes(upper: Path, lowers: Sequence[Path]) -> dict[str, int]:
    """Absolute paths and kinds of what an upper directory changes; lowers from the uppermost down. Raises OSError."""
    with contextlib.ExitStack() as stack:
        places = [_descent(stack, path) for path in (upper, *lowers)]
        return dict(_changes(places[0], places[1:]))


def _descent(stack: contextlib.ExitStack, path: Path) -> Descent:
    top = opened(path)
    try:
        # An image may have 128 layers: each keeps few directories open.
        return stack.enter_context(Descent(top, open_levels=1))
    finally:
        os.close(top)


def _changes(upper: Descent, lowers: Sequence[Descent]) -> Iterator[tuple[str, int]]:
    """Walk the upper directory. A lower one moves along where it has the same directory, and that is not hidden."""
    inside = "/"
    waiting = [(upper.names(), lowers, len(inside))]
    while waiting:
        names, below, length = waiting[-1]
        inside = inside[:length]
        if not names:
            waiting.pop()
            if waiting:
                for place in (upper, *below):
                    place.leave()
            continue
        try:
            entry = upper.entry(names.pop())
        except FileNotFoundError:  # the container has just removed it
            continue
        with entry:
            merged = _merged(below, entry.name)
            yield from _compare(entry, inside, below, merged)
            if entry.is_directory and upper.try_to_enter(entry):
                inside += entry.name + "/"
                entered = [] if is_opaque(entry) else merged
                for place in entered:
                    _enter(place, entry.name)
                waiting.append((upper.names(), entered, len(inside)))


def _enter(place: Descent, name: str) -> None:
    with place.entry(name) as entry:
        place.enter(entry)


def _compare(
    entry: Entry, inside: str, lowers: Sequence[Descent], merged: Sequence[Descent]
) -> Iterator[tuple[str, int]]:
    """Compare an entry of the upper directory with what the lower ones have at its path."""
    path, below = inside + entry.name, _below(lowers, entry.name)
    if is_whiteout(entry):
        if below is not None:
            yield path, DELETED
        return
    if below is None:
        yield path, ADDED
    elif differs(entry.status, below):
        yield path, MODIFIED
    if merged and (not entry.is_directory or is_opaque(entry)):
        for name in _names(merged, entry.name) - _listed(entry):
            yield f"{path}/{name}", DELETED


def _listed(entry: Entry) -> set[str]:
    if not entry.is_directory:
        return set()
    with Descent(entry.fd) as place:
        return set(place.names())


def _below(lowers: Sequence[Descent], name: str) -> os.stat_result | None:
    """What the image has at a name, None where it has nothing. All lowers are in the directory of that name."""
    for lower in lowers:
        with contextlib.suppress(FileNotFoundError), lower.entry(name) as entry:
            return None if is_whiteout(entry) else entry.status
    return None


def _merged(lowers: Sequence[Descent], name: str) -> list[Descent]:
    """The lowers whose directories of a name are seen as one: down to the first that hides those under it.

    No link is followed, so that what is looked at never leaves the layers.
    """
    found = []
    for lower in lowers:
        with contextlib.suppress(FileNotFoundError), lower.entry(name) as entry:
            if not entry.is_directory:
                break
            found.append(lower)
            if is_opaque(entry):
                break
    return found


def _names(merged: Sequence[Descent], directory: str) -> set[str]:
    """What the image has in a directory that these lowers make up."""
    for lower in merged:
        _enter(lower, directory)
    try:
        names = {name for lower in merged for name in lower.names()}
        return {name for name in names if _below(merged, name) is not None}
    finally:
        for lower in merged:
            lower.leave()


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
