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

from pylab_container.formats import tar
from pylab_container.formats.ids import EntryName
from pylab_container.host import programs
from pylab_container.host.removal import remove_below
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
        self._top = os.readlink(f"/proc/self/fd/{self._root}")
        self._brought = {self._top}

    def create(self, header: tar.Header) -> int | None:
        writer = super().create(header)
        if path := inside(header.name):
            parent, name = self._locate(path)
            place = posixpath.join(_place(parent), name)
            while place not in self._brought:
                self._brought.add(place)
                place = posixpath.dirname(place)
        return writer

    def _hide_all(self, directory: str) -> None:
        for name in os.listdir(f"/proc/self/fd/{self._parent(directory)}"):
            self._delete(directory, name)

    def _hide_name(self, directory: str, name: str, header: tar.Header) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._delete(directory, name)

    def _delete(self, directory: str, name: str) -> None:
        parent = self._parent(directory)
        if posixpath.join(_place(parent), name) in self._brought:
            return
        if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            remove_below(parent, EntryName(name))
            self._forget_parents()
        else:
            os.unlink(name, dir_fd=parent)


def _place(fd: int) -> str:
    """Where a directory is, however it was reached: members may go through links."""
    return os.readlink(f"/proc/self/fd/{fd}")


# ---- from two trees to their difference ----------------------------------------------


class _Pair(Struct, frozen=True):
    """One name in either tree, relative to both; None where a tree has nothing there."""

    name: bytes
    new: os.stat_result | None
    old: os.stat_result | None


class ChangeReader(TreeReader):
    """The members of the change that leads from one whole tree to another, in TreeReader's order.

    Like an overlay upper directory the change holds every directory above a change, and
    all names of a file that got a new one. A whiteout's time is that of its directory.
    """

    def __init__(self, new: Path, old: Path) -> None:
        super().__init__(new, whiteouts=False)
        self._old = os.fsencode(old)

    def _members(self) -> Iterator[tuple[tar.Header, bytes]]:
        relinked = {_inode(pair.new) for pair in self._changed() if pair.new and _has_many_names(pair.new)}
        above: list[_Pair] = []
        for pair in self._pairs():
            while above and not pair.name.startswith(above[-1].name + b"/"):
                above.pop()
            if self._is_changed(pair) or (pair.new and _inode(pair.new) in relinked):
                for one in [*above, pair]:
                    if (header := self._change(one)) is not None:
                        yield header, self._new_path(one.name)
                above.clear()
            elif pair.new and stat.S_ISDIR(pair.new.st_mode):
                above.append(pair)

    def changes(self) -> dict[str, int]:
        """Absolute paths and kinds of the changes, without the directories that only contain some."""
        return {f"/{os.fsdecode(pair.name)}": _kind(pair) for pair in self._changed()}

    def _changed(self) -> Iterator[_Pair]:
        return (pair for pair in self._pairs() if self._is_changed(pair))

    def _change(self, pair: _Pair) -> tar.Header | None:
        if pair.new is not None:
            return self._header(os.fsdecode(pair.name), self._new_path(pair.name), pair.new)
        directory, base = os.path.split(os.fsdecode(pair.name))
        seconds = os.stat(self._new_path(os.fsencode(directory))).st_mtime_ns // 10**9
        return tar.Header(posixpath.join(directory, WHITEOUT + base), mode=0o600, mtime=seconds * 10**9)

    def _is_changed(self, pair: _Pair) -> bool:
        if pair.new is None or pair.old is None:
            return True
        if _inode(pair.new) == _inode(pair.old):
            return False
        new, old = self._new_path(pair.name), os.path.join(self._old, pair.name)
        return differs(pair.new, pair.old) or xattrs(new) != xattrs(old)

    def _pairs(self) -> Iterator[_Pair]:
        """Every name in either tree, but nothing below what was deleted."""
        waiting = self._names(b"", in_old=True)
        while waiting:
            name, in_old = waiting.pop()
            old = _status(os.path.join(self._old, name)) if in_old else None
            pair = _Pair(name, _status(self._new_path(name)), old)
            yield pair
            if pair.new and stat.S_ISDIR(pair.new.st_mode):
                # A link to a directory in the old tree has nothing below: it may lead anywhere.
                waiting += self._names(name, in_old=old is not None and stat.S_ISDIR(old.st_mode))

    def _names(self, directory: bytes, *, in_old: bool) -> list[tuple[bytes, bool]]:
        names = set(os.listdir(self._new_path(directory)))
        if in_old:
            names.update(os.listdir(os.path.join(self._old, directory)))
        return [(os.path.join(directory, name), in_old) for name in sorted(names, reverse=True)]

    def _new_path(self, name: bytes) -> bytes:
        return os.path.join(self._directory, name)


def _status(path: bytes) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def _inode(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _has_many_names(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and status.st_nlink > 1


def _kind(pair: _Pair) -> int:
    if pair.new is None:
        return DELETED
    return ADDED if pair.old is None else MODIFIED
