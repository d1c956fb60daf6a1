"""Layers kept as whole trees: copy one, and compare two.

A driver whose layers are whole trees cannot read a change from one directory. It compares two trees, which moby calls
the naive diff: an entry was changed if its kind, mode, owner, device, size, modification time or attributes differ.
A file whose new content has the old length and the old time goes unnoticed; overlay2 has no such gap.
Source: moby daemon/graphdriver/fsdiff.go, pkg/archive/changes.go (20.10).
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
from pylab_container.oci import tar
from pylab_container.store.changes import ADDED, DELETED, MODIFIED, differs
from pylab_container.store.treetar import TreeReader, xattrs
from pylab_container.store.whiteouts import WHITEOUT


def copy_tree(source: Path, target: Path, *, share_files: bool = False) -> None:
    """Copy the content of a directory, with owners, modes, times, attributes and hard links.

    share_files  make hard links of everything but directories, instead of copies

    Raises RuntimeFailed.
    """
    # cp(1) clones files or copies them inside the kernel (FICLONE, copy_file_range(2)); a Python loop is much slower.
    programs.run(["cp", "-al" if share_files else "-a", "--", f"{source}/.", str(target)])


class _Pair(Struct, frozen=True):
    """An entry that either tree has, and None for a tree that does not have it.

    parent  a descriptor of its directory in the new tree
    """

    path: str
    new: Entry | None
    old: Entry | None
    parent: int

    @property
    def is_directory(self) -> bool:
        """Whether the entry is a directory in the new tree."""
        return self.new is not None and self.new.is_directory


class ChangeReader(TreeReader):
    """The members of the change from one whole tree to another, in TreeReader's order.

    As in an overlay upper directory, every directory above a change is a member, and so are all names of a file that
    got a further name. A whiteout has the modification time of its directory.
    """

    def __init__(self, new: Path, old: Path) -> None:
        super().__init__(new, whiteouts=False)
        self._old = old

    def changes(self) -> dict[str, int]:
        """Return {absolute path: kind} of the changes.

        Directories that only contain changes are missing.
        """
        top = self._opened()
        try:
            return {f"/{pair.path}": _kind(pair) for pair in self._pairs(top) if _is_changed(pair)}
        finally:
            os.close(top)

    def _members_of(self, top: int) -> Iterator[tuple[tar.Header, Entry | None]]:
        # A first pass: a new hard link makes earlier names of the file members, too, for the tar must contain the
        # content that the link refers to.
        relinked = {
            _inode(pair.new)
            for pair in self._pairs(top)
            if pair.new and _has_many_names(pair.new) and _is_changed(pair)
        }
        above: list[tuple[str, tar.Header]] = []
        for pair in self._pairs(top):
            while above and not pair.path.startswith(above[-1][0] + "/"):
                above.pop()
            if _is_changed(pair) or (pair.new and _inode(pair.new) in relinked):
                for _, header in above:
                    yield header, None
                above.clear()
                if (changed := self._change(pair)) is not None:
                    yield changed, pair.new
            elif pair.new and pair.is_directory and (unchanged := self._header(pair.path, pair.new)):
                above.append((pair.path, unchanged))

    def _change(self, pair: _Pair) -> tar.Header | None:
        """Return the header of a changed entry, or of the whiteout of a deleted one."""
        if pair.new is not None:
            return self._header(pair.path, pair.new)
        directory, base = posixpath.split(pair.path)
        seconds = os.fstat(pair.parent).st_mtime_ns // 10**9
        return tar.Header(posixpath.join(directory, WHITEOUT + base), mode=0o600, mtime=seconds * 10**9)

    def _pairs(self, top: int) -> Iterator[_Pair]:
        """Yield every entry of either tree, but nothing below a deleted directory."""
        below = opened(self._old)
        try:
            with Descent(top) as new, Descent(below) as old:
                yield from _paired(new, old)
        finally:
            os.close(below)


def _paired(new: Descent, old: Descent) -> Iterator[_Pair]:
    """Walk the new tree.

    The position in the old tree follows as long as it has the same directory.
    """
    inside = ""
    pending = [(_names(new, old), True, 0)]
    while pending:
        names, in_old, length = pending[-1]
        inside = inside[:length]
        if not names:
            pending.pop()
            if pending:
                new.leave()
                if in_old:
                    old.leave()
            continue
        name = names.pop()
        with contextlib.ExitStack() as stack:
            pair = _Pair(inside + name, _entry(stack, new, name), _entry(stack, old, name) if in_old else None, new.fd)
            yield pair
            if pair.new and pair.is_directory and new.try_to_enter(pair.new):
                # A symbolic link in the old tree is not followed: it may lead out of the layer.
                if in_both := pair.old is not None and pair.old.is_directory:
                    old.enter(pair.old)
                inside = pair.path + "/"
                pending.append((_names(new, old if in_both else None), in_both, len(inside)))


def _entry(stack: contextlib.ExitStack, position: Descent, name: str) -> Entry | None:
    try:
        return stack.enter_context(position.entry(name))
    except FileNotFoundError:
        return None


def _names(new: Descent, old: Descent | None) -> list[str]:
    """Return the names in either directory in descending order."""
    return sorted({*new.names(), *(old.names() if old else ())}, key=os.fsencode, reverse=True)


def _is_changed(pair: _Pair) -> bool:
    if pair.new is None or pair.old is None:
        return True
    if _inode(pair.new) == _inode(pair.old):  # a hard link into the layer below (overlay driver)
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
