"""Layers kept as whole trees: copying them, applying a change to one, and finding the change between two.

A driver whose layers are whole trees cannot read a change off a directory. It has to compare
two trees, which moby calls the naive diff: what differs in kind, mode, owner, device, size,
time or attributes was changed. A file whose new content has the old length and the old time
goes unnoticed; overlay2 has no such gap.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import stat
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from pylab_container.host import programs
from pylab_container.host.descent import Descent, Entry, opened
from pylab_container.host.removal import remove_below
from pylab_container.oci import tar
from pylab_container.oci.ids import EntryName
from pylab_container.store.changes import ADDED, DELETED, MODIFIED, differs
from pylab_container.store.layertar import Extractor, inside
from pylab_container.store.treetar import TreeReader, xattrs
from pylab_container.store.whiteouts import WHITEOUT


def copy_tree(source: Path, target: Path, *, share_files: bool = False) -> None:
    """Copy what is in a directory into another one, with owners, modes, times, attributes and hard links.

    share_files  make hard links of everything but directories, instead of copies
    """
    programs.run(["cp", "-al" if share_files else "-a", "--", f"{source}/.", str(target)])


class TreeExtractor(Extractor):
    """Applies a layer to a whole tree: a whiteout deletes what it hides, unless this very layer brought it.

    Files are replaced, never written into, so the tree may share them with others.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._brought = {_identity(self._root)}

    def create(self, header: tar.Header) -> int | None:
        writer = super().create(header)
        if path := inside(header.name):
            self._note(*self._locate(path))
        return writer

    def _note(self, parent: int, name: str) -> None:
        """Remember a name as this layer's, and the directories above it, however they were reached."""
        with contextlib.suppress(FileNotFoundError):  # a whiteout leaves nothing
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
            self._brought.add((status.st_dev, status.st_ino))
        above = os.dup(parent)
        while (identity := _identity(above)) not in self._brought:
            self._brought.add(identity)
            below, above = above, os.open("..", os.O_PATH | os.O_CLOEXEC, dir_fd=above)
            os.close(below)
        os.close(above)

    def _hide_all(self, directory: str) -> None:
        for name in os.listdir(f"/proc/self/fd/{self._parent(directory)}"):
            self._delete(directory, name)

    def _hide_name(self, directory: str, name: str, header: tar.Header) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._delete(directory, name)

    def _delete(self, directory: str, name: str) -> None:
        parent = self._parent(directory)
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if (status.st_dev, status.st_ino) in self._brought:
            return
        if stat.S_ISDIR(status.st_mode):
            remove_below(parent, EntryName(name))
            self._forget_parents()
        else:
            os.unlink(name, dir_fd=parent)


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


# ---- from two trees to their difference ----------------------------------------------


class _Pair(Struct, frozen=True):
    """One name in either tree; None where a tree has nothing there. parent: the directory of the new tree."""

    path: str
    new: Entry | None
    old: Entry | None
    parent: int

    @property
    def is_directory(self) -> bool:
        """Whether the new tree has a directory there."""
        return self.new is not None and self.new.is_directory


class ChangeReader(TreeReader):
    """The members of the change that leads from one whole tree to another, in TreeReader's order.

    Like an overlay upper directory the change holds every directory above a change, and
    all names of a file that got a new one. A whiteout's time is that of its directory.
    """

    def __init__(self, new: Path, old: Path) -> None:
        super().__init__(new, whiteouts=False)
        self._old = old

    def _below(self, top: int) -> Iterator[tuple[tar.Header, Entry | None]]:
        relinked = {
            _inode(pair.new) for pair in self._pairs(top) if pair.new and _has_many_names(pair.new) and _changed(pair)
        }
        above: list[tuple[str, tar.Header]] = []
        for pair in self._pairs(top):
            while above and not pair.path.startswith(above[-1][0] + "/"):
                above.pop()
            if _changed(pair) or (pair.new and _inode(pair.new) in relinked):
                for _, header in above:
                    yield header, None
                above.clear()
                if (changed := self._change(pair)) is not None:
                    yield changed, pair.new
            elif pair.new and pair.is_directory and (unchanged := self._header(pair.path, pair.new)):
                above.append((pair.path, unchanged))

    def changes(self) -> dict[str, int]:
        """Absolute paths and kinds of the changes, without the directories that only contain some."""
        top = self._opened()
        try:
            return {f"/{pair.path}": _kind(pair) for pair in self._pairs(top) if _changed(pair)}
        finally:
            os.close(top)

    def _change(self, pair: _Pair) -> tar.Header | None:
        if pair.new is not None:
            return self._header(pair.path, pair.new)
        directory, base = posixpath.split(pair.path)
        seconds = os.fstat(pair.parent).st_mtime_ns // 10**9
        return tar.Header(posixpath.join(directory, WHITEOUT + base), mode=0o600, mtime=seconds * 10**9)

    def _pairs(self, top: int) -> Iterator[_Pair]:
        """Every name in either tree, but nothing below what was deleted."""
        below = opened(self._old)
        try:
            with Descent(top) as new, Descent(below) as old:
                yield from _paired(new, old)
        finally:
            os.close(below)


def _paired(new: Descent, old: Descent) -> Iterator[_Pair]:
    """Walk the new tree. The old one moves along as long as it has the same directory."""
    inside = ""
    waiting = [(_names(new, old), True, 0)]
    while waiting:
        names, in_old, length = waiting[-1]
        inside = inside[:length]
        if not names:
            waiting.pop()
            if waiting:
                new.leave()
                if in_old:
                    old.leave()
            continue
        name = names.pop()
        with contextlib.ExitStack() as stack:
            pair = _Pair(inside + name, _entry(stack, new, name), _entry(stack, old, name) if in_old else None, new.fd)
            yield pair
            if pair.new and pair.is_directory and new.try_to_enter(pair.new):
                # A link to a directory in the old tree has nothing below: it may lead anywhere.
                if in_both := pair.old is not None and pair.old.is_directory:
                    old.enter(pair.old)
                inside = pair.path + "/"
                waiting.append((_names(new, old if in_both else None), in_both, len(inside)))


def _entry(stack: contextlib.ExitStack, place: Descent, name: str) -> Entry | None:
    try:
        return stack.enter_context(place.entry(name))
    except FileNotFoundError:
        return None


def _names(new: Descent, old: Descent | None) -> list[str]:
    """The names in either directory, the last one first."""
    return sorted({*new.names(), *(old.names() if old else ())}, key=os.fsencode, reverse=True)


def _changed(pair: _Pair) -> bool:
    if pair.new is None or pair.old is None:
        return True
    if _inode(pair.new) == _inode(pair.old):
        return False
    new, old = (xattrs(entry.path, follow_links=True) for entry in (pair.new, pair.old))
    return differs(pair.new.status, pair.old.status) or new != old


def _inode(entry: Entry) -> tuple[int, int]:
    return entry.status.st_dev, entry.status.st_ino


def _has_many_names(entry: Entry) -> bool:
    return stat.S_ISREG(entry.status.st_mode) and entry.status.st_nlink > 1


def _kind(pair: _Pair) -> int:
    if pair.new is None:
        return DELETED
    return ADDED if pair.old is None else MODIFIED
