"""Directory trees as text, and the difference between two trees.

Ids in a data root are random, so a tree sorted by name would differ in every run. Here ids come after all other names,
in the order in which they were first seen.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from msgspec import Struct, field

from pylab_container.host import reserve
from pylab_container.notebook.markup import Html, joined, markup, output
from pylab_container.text.visible import visible

_ID = re.compile(r"([0-9a-f]{64})(-init|-json\.log)?\Z")
_SHORT_NAME = re.compile(r"[A-Z2-7]{26}\Z")
_LONG_IDS = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")

# Pages of nbconvert set no font for <pre>.
MONOSPACE = "font-family: var(--jp-code-font-family, monospace); font-size: var(--jp-code-font-size, 13px)"

_COLOURS = {"+": "#1a6b2a", "-": "#a40000", " ": "inherit"}


class TreeEntry(Struct, frozen=True):
    """One file of a tree.

    path  its names from the root of the tree
    note  shown after its name: "/" for a directory, " -> …" for a link, the number of entries of a closed directory
    """

    path: tuple[str, ...]
    note: str = ""

    @property
    def label(self) -> str:
        return visible(shortened(self.path[-1]) + self.note)


class Tree(Struct, frozen=True):
    """The entries below a directory at one time, displayed as by tree(1).

    before  a tree to compare with: each line then starts with +, - or a space
    """

    title: str
    entries: tuple[TreeEntry, ...]
    before: Tree | None = None

    def lines(self) -> list[str]:
        """Return the title and one line for each entry."""
        title = visible(self.title)
        if not self.entries and not (self.before and self.before.entries):
            return [title, "(nothing there)"]
        if self.before is None:
            return [title, *(branches + entry.label for branches, entry in _drawn(self.entries))]
        old, new = set(self.before.entries), set(self.entries)
        drawn = _drawn(_merged(self.before.entries, self.entries))
        marks = [(" " if entry in old and entry in new else "+" if entry in new else "-") for _, entry in drawn]
        return [
            f"  {title}",
            *(f"{mark} {branches}{entry.label}" for mark, (branches, entry) in zip(marks, drawn, strict=True)),
        ]

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def _repr_html_(self) -> Html:
        lines = joined(map(self._html_line, self.lines()), markup("<br>"))
        return output(markup('<pre style="line-height: 1.3; {font}">{lines}</pre>', font=MONOSPACE, lines=lines))

    def _html_line(self, line: str) -> Html:
        mark = line[0] if self.before is not None else " "
        if mark == " ":
            return markup("{line}", line=line)
        return markup('<span style="color: {colour}">{line}</span>', colour=_COLOURS[mark], line=line)


class Order(Struct):
    """The order in which ids were first seen."""

    seen: dict[str, int] = field(default_factory=dict)

    def key(self, name: str, target: str) -> tuple[int, int, str]:
        """Return a sort key: ordinary names, then ids and links to ids by first appearance."""
        match = _ID.match(name) or (_SHORT_NAME.match(name) and _ID.search(os.path.dirname(target)))
        if not match:
            return (0, 0, name)
        rank = self.seen.setdefault(match[1], len(self.seen))
        return (1, rank, match[0])


def read(path: Path, *, depth: int, closed: Collection[str] = (), order: Order | None = None, title: str = "") -> Tree:
    """Read the tree below path; an empty tree if path does not exist.

    depth   number of levels of directories that are opened
    closed  names of directories that are not opened at any level
    order   the ids of earlier trees
    """
    walk = _Walk(depth, closed, order or Order())
    return Tree(title or path.name, tuple(walk.below(path, ())) if path.is_dir() else ())


def shortened(text: str) -> str:
    """Shorten every 64-digit id to the 12 digits that Docker's listings show."""
    return _LONG_IDS.sub(r"\1…", text)


class _Walk(Struct, frozen=True):
    depth: int
    closed: Collection[str]
    order: Order

    def below(self, directory: Path, above: tuple[str, ...]) -> Iterator[TreeEntry]:
        with os.scandir(directory) as items:
            shown = [item for item in items if item.name != reserve.NAME]  # ballast, the same in every tree
            targets = {item.name: os.readlink(item.path) if item.is_symlink() else "" for item in shown}
        for name in sorted(targets, key=lambda name: self.order.key(name, targets[name])):
            here, path = directory / name, (*above, name)
            if targets[name]:
                yield TreeEntry(path, f" -> {shortened(targets[name])}")
            elif not here.is_dir():
                yield TreeEntry(path)
            elif len(path) < self.depth and name not in self.closed:
                yield TreeEntry(path, "/")
                yield from self.below(here, path)
            else:
                yield TreeEntry(path, f"/{_count(here)}")


def _count(directory: Path) -> str:
    number = len(os.listdir(directory))
    return f"  [{number} {'entry' if number == 1 else 'entries'}]" if number else ""


def _merged(old: Sequence[TreeEntry], new: Sequence[TreeEntry]) -> list[TreeEntry]:
    """Return the entries of both trees, removed ones before added ones."""
    known = {entry.path for entry in new}
    merged = list(new)
    for entry in old:
        if entry in new:
            continue
        if entry.path in known:  # the same file with another note
            merged.insert(next(i for i, other in enumerate(merged) if other.path == entry.path), entry)
        else:
            above = entry.path[:-1]
            places = [i for i, other in enumerate(merged) if other.path[: len(above)] == above]
            merged.insert(places[-1] + 1 if places else 0, entry)
    return merged


def _drawn(entries: Sequence[TreeEntry]) -> list[tuple[str, TreeEntry]]:
    """Return each entry with the lines that join it to its directory."""
    return [(_branches(entries, index), entry) for index, entry in enumerate(entries)]


def _branches(entries: Sequence[TreeEntry], index: int) -> str:
    path = entries[index].path
    stems = ["│   " if _has_later_sibling(entries, index, level) else "    " for level in range(1, len(path))]
    return "".join(stems) + ("├── " if _has_later_sibling(entries, index, len(path)) else "└── ")


def _has_later_sibling(entries: Sequence[TreeEntry], index: int, level: int) -> bool:
    """Return whether the ancestor of an entry at a level has a later sibling."""
    above = entries[index].path[: level - 1]
    own = entries[index].path[:level]
    for other in entries[index + 1 :]:
        if other.path[: level - 1] != above:
            return False
        if len(other.path) == level and (level == len(entries[index].path) or other.path != own):
            return True
    return False
