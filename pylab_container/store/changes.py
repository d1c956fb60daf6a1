"""List what an overlay upper directory changes in the directories below it, path by path.

Source of the rules: moby pkg/archive/changes_linux.go (20.10); kernel Documentation/filesystems/overlayfs.rst.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from pylab_container.host.descent import Descent, Entry, opened
from pylab_container.store.whiteouts import is_opaque, is_whiteout

MODIFIED, ADDED, DELETED = 0, 1, 2  # the numbers of the Engine API (GET /containers/{id}/changes)


def overlay_changes(upper: Path, lowers: Sequence[Path]) -> dict[str, int]:
    """Return {absolute path: kind} of what an upper directory changes; lowers uppermost first.

    Raises OSError.
    """
    with contextlib.ExitStack() as stack:
        descents = [_descent(stack, path) for path in (upper, *lowers)]
        return dict(_changes(descents[0], descents[1:]))


def _descent(stack: contextlib.ExitStack, path: Path) -> Descent:
    top = opened(path)
    try:
        # One open level instead of the default: with 128 layers a deep tree would use up the process's descriptors.
        return stack.enter_context(Descent(top, open_levels=1))
    finally:
        os.close(top)


def _changes(upper: Descent, lowers: Sequence[Descent]) -> Iterator[tuple[str, int]]:
    """Walk the upper directory; the lower positions follow into directories that it shows."""
    inside = "/"
    pending = [(upper.names(), lowers, len(inside))]  # a stack of its own: a tree may be deeper than Python's
    while pending:
        names, below, length = pending[-1]
        inside = inside[:length]
        if not names:
            pending.pop()
            if pending:
                for position in (upper, *below):
                    position.leave()
            continue
        try:
            entry = upper.entry(names.pop())
        except FileNotFoundError:  # the running container removed it after names()
            continue
        with entry:
            merged = _merged(below, entry.name)
            yield from _compare(entry, inside, below, merged)
            # A directory that is opaque starts without lower ones: all below it is new, or hidden.
            if entry.is_directory and upper.try_to_enter(entry):
                inside += entry.name + "/"
                entered = [] if is_opaque(entry) else merged
                for position in entered:
                    _enter(position, entry.name)
                pending.append((upper.names(), entered, len(inside)))


def _enter(position: Descent, name: str) -> None:
    # Without handling FileNotFoundError: the lower directories belong to read-only layers, which are in use.
    with position.entry(name) as entry:
        position.enter(entry)


def _compare(
    entry: Entry, inside: str, lowers: Sequence[Descent], merged: Sequence[Descent]
) -> Iterator[tuple[str, int]]:
    """Compare an entry of the upper directory with the entry below at the same path."""
    path, below = inside + entry.name, _below(lowers, entry.name)
    if is_whiteout(entry):
        # A whiteout of a name that no lower layer has, which other tools may write, changes nothing.
        if below is not None:
            yield path, DELETED
        return
    if below is None:
        yield path, ADDED
    elif differs(entry.status, below):
        yield path, MODIFIED
    # An opaque directory, or a file in a directory's place, has no whiteouts for what it hides.
    if merged and (not entry.is_directory or is_opaque(entry)):
        for name in _names(merged, entry.name) - _listed(entry):
            yield f"{path}/{name}", DELETED


def _listed(entry: Entry) -> set[str]:
    if not entry.is_directory:
        return set()
    with Descent(entry.fd) as position:
        return set(position.names())


def _below(lowers: Sequence[Descent], name: str) -> os.stat_result | None:
    """Return the status of a name in the merged lower layers, None if they do not have it.

    Every Descent in lowers is positioned at the directory of the name.
    """
    # The uppermost entry decides, and a whiteout in it hides all others, as in the kernel's lookup.
    for lower in lowers:
        with contextlib.suppress(FileNotFoundError), lower.entry(name) as entry:
            return None if is_whiteout(entry) else entry.status
    return None


def _merged(lowers: Sequence[Descent], name: str) -> list[Descent]:
    """Return the lower layers whose directories of a name overlayfs merges.

    These are the layers down to the first that hides the rest.

    A symbolic link ends the list. It is not followed, because it may lead out of the layers.
    """
    merged = []
    for lower in lowers:
        with contextlib.suppress(FileNotFoundError), lower.entry(name) as entry:
            if not entry.is_directory:
                break
            merged.append(lower)
            if is_opaque(entry):
                break
    return merged


def _names(merged: Sequence[Descent], directory: str) -> set[str]:
    """Return the visible names in a directory that these lower layers merge."""
    for lower in merged:
        _enter(lower, directory)
    try:
        # A whiteout in a lower layer is an entry, too, but shows no name: _below() applies it.
        names = {name for lower in merged for name in lower.names()}
        return {name for name in names if _below(merged, name) is not None}
    finally:
        for lower in merged:
            lower.leave()


def differs(new: os.stat_result, old: os.stat_result) -> bool:
    """Report whether an entry itself was changed.

    Copy-up keeps size and modification time (overlayfs.rst, "Non-directories"), so a file that was only opened for
    writing is not listed. A directory's time is ignored: it changes with the entries in it.
    """
    same = (new.st_mode, new.st_uid, new.st_gid, new.st_rdev) == (old.st_mode, old.st_uid, old.st_gid, old.st_rdev)
    if same and not stat.S_ISDIR(new.st_mode):
        return (new.st_mtime_ns, new.st_size) != (old.st_mtime_ns, old.st_size)
    return not same
