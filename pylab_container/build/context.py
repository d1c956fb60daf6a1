"""The build context: the files that COPY and ADD may read, and no files outside of it.

A context is a directory on the host: a folder, an unpacked archive, or the root of another stage. Symbolic links inside
it are resolved as if the directory were /, so that none leads out of it. opened_context.py makes the context of a build
from its source, and reads the Dockerfile.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import re
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct, field

from pylab_container.dockerfile.dockerignore import IgnorePatterns
from pylab_container.errors import InvalidInput
from pylab_container.host.inside import open_path
from pylab_container.text.globs import Glob, match_steps

_WILDCARD = re.compile(r"(?s)\\.|([*?\[])")


class ContextEntry(Struct):
    """One file, directory or link of a context.

    name     relative to the source argument; "" is the source itself
    path     on the host; "" for an entry that only exists in memory
    mode     as st_mode: file type and permissions
    mtime    nanoseconds since the epoch
    size     bytes of a file's content
    device   device number of a device node
    link     target of a symbolic link; for a file with several hard links, the name of an earlier one
    content  content of a file that is held in memory
    """

    name: str
    path: str
    mode: int
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    size: int = 0
    device: int = 0
    link: str = ""
    content: bytes | None = None
    xattrs: dict[str, bytes] = field(default_factory=dict)

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory. A symbolic link to a directory is not."""
        return stat.S_ISDIR(self.mode)

    @classmethod
    def of(cls, name: str, path: str, status: os.stat_result) -> ContextEntry:
        """Make the entry of a file on the host."""
        return cls(
            name,
            path,
            status.st_mode,
            status.st_uid,
            status.st_gid,
            status.st_mtime_ns,
            status.st_size if stat.S_ISREG(status.st_mode) else 0,
            status.st_rdev,
        )


class Match(Struct, frozen=True):
    """One file or directory that a source argument names.

    name    the normalized argument: "link/file"
    inside  its path in the context, without links: "directory/file"
    entry   the file or directory
    """

    name: str
    inside: str
    entry: ContextEntry


class Filter(Struct, frozen=True):
    """Selects entries below a source by patterns.

    keeps_matches     True: keep only the entries that match, as for --parents; False: keep only those that do not
    in_whole_context  True: the patterns are relative to the context's root, as in .dockerignore; False: to the source
    """

    patterns: IgnorePatterns
    keeps_matches: bool = False
    in_whole_context: bool = False

    def keeps(self, path: str) -> bool:
        """Report whether an entry is kept. path is relative to the same directory as the patterns."""
        return self.patterns.covers(path) == self.keeps_matches

    def may_keep_below(self, directory: str) -> bool:
        """Report whether an entry below an excluded directory may be kept.

        True is not certain: only a walk can decide some patterns.
        """
        if self.in_whole_context:
            return self.patterns.may_enter(directory)
        if self.keeps_matches:
            return any(pattern.may_match_below(directory) for pattern in self.patterns.patterns)
        return self.patterns.may_contain_exceptions(directory)


class _Directory(NamedTuple):
    """A directory that has yet to be walked.

    skipped  the directory and those of its parents that the filters do not keep. They are yielded before the first
             entry below them that is kept, because that entry needs them
    """

    path: str
    inside: str
    name: str
    skipped: tuple[ContextEntry, ...]


class BuildContext:
    """A tree that COPY and ADD read.

    directory     its absolute path on the host
    ignored       the patterns of its .dockerignore
    keeps_owners  copies keep the owners of the files; else root owns them, as for a user's folder
    check         called for each file that is compared with patterns; may raise an error to cancel the walk
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        ignored: IgnorePatterns | None = None,
        keeps_owners: bool = False,
        downloads: Callable[[], Path] | None = None,
    ) -> None:
        """downloads returns a directory for what ADD downloads; without it ADD refuses URLs."""
        self.directory = os.path.realpath(directory)
        self.ignored = ignored or IgnorePatterns(())
        self.keeps_owners = keeps_owners
        self.check: Callable[[], object] = lambda: None
        self._downloads = downloads

    @classmethod
    def of_root(cls, root: str | Path) -> BuildContext:
        """Make the context of COPY --from: the files of a stage or an image, mounted at root."""
        return cls(root, keeps_owners=True)

    def downloads(self) -> Path:
        """Return a directory for downloads; it exists while the context is open.

        Raises InvalidInput for the files of a stage or an image, which have none.
        """
        if self._downloads is None:
            raise InvalidInput("source can't be a URL together with --from", hint="download it in a step of its own")
        return self._downloads()

    def find(self, word: str) -> list[Match]:
        """Return the files that a source argument names; a pattern may match several or none.

        Raises InvalidInput for a path that does not exist or that .dockerignore excludes.
        """
        word = word.removeprefix("/").removeprefix("./")
        if not has_wildcards(word):
            return [self._match(word)]
        names = self._glob("", [Glob(match_steps(each)) for each in word.rstrip("/").split("/")])
        return [self._match(name) for name in names if not self._is_excluded(name)]

    def walk(self, match: Match, filters: Sequence[Filter] = ()) -> Iterator[ContextEntry]:
        """Yield a match and the entries below it that .dockerignore and the filters keep.

        A directory precedes its entries.

        Equal trees give the same order. Sockets are left out: without the process that listens they have no use.
        """
        excluded = bool(match.inside and self.ignored.patterns) and self.ignored.excludes(match.inside)
        yield _implied_directory(match.entry) if excluded else match.entry
        if not match.entry.is_directory:
            return
        if self.ignored.patterns:
            filters = [Filter(self.ignored, in_whole_context=True), *filters]
        names: dict[tuple[int, int], str] = {}
        yielded: set[str] = set()
        stack = [_Directory(match.entry.path, match.inside, "", ())]
        while stack:
            directory = stack.pop()
            below = []
            for entry, nested, kept in self._scan(directory, filters, names):
                if kept:
                    for above in directory.skipped:
                        if above.name not in yielded:
                            yielded.add(above.name)
                            yield above
                    yield entry
                if nested:
                    below.append(nested)
            stack += reversed(below)

    def _scan(
        self, directory: _Directory, filters: Sequence[Filter], names: dict[tuple[int, int], str]
    ) -> Iterator[tuple[ContextEntry, _Directory | None, bool]]:
        """Yield the entries of a directory: (entry, the directory to walk if it is one, whether it is kept)."""
        prefix = f"{directory.name}/" if directory.name else ""
        for child in _sorted_entries(directory.path):
            self.check()
            status = child.stat(follow_symlinks=False)
            mode = status.st_mode
            if stat.S_ISSOCK(mode):
                continue
            entry = ContextEntry.of(prefix + child.name, child.path, status)
            inside = posixpath.join(directory.inside, child.name) if filters else ""
            kept, enter, ignored = _apply_filters(filters, inside, entry.name)
            if stat.S_ISDIR(mode):
                nested = None
                if enter:
                    inside = inside or posixpath.join(directory.inside, child.name)
                    skipped = () if kept else (*directory.skipped, _implied_directory(entry) if ignored else entry)
                    nested = _Directory(child.path, inside, entry.name, skipped)
                yield entry, nested, kept
            elif kept:
                self._complete(entry, status, names)
                yield entry, None, True

    def _complete(self, entry: ContextEntry, status: os.stat_result, names: dict[tuple[int, int], str]) -> None:
        """Read the target of a symbolic link; find the earlier name of a hard link. names: first names by inode."""
        if stat.S_ISLNK(entry.mode):
            entry.link = os.readlink(entry.path)
        elif status.st_nlink > 1 and stat.S_ISREG(entry.mode):
            first = names.setdefault((status.st_dev, status.st_ino), entry.name)
            entry.link = first if first != entry.name else ""

    def _is_excluded(self, path: str) -> bool:
        """Report whether .dockerignore excludes a path and all entries below it."""
        if not path or not self.ignored.patterns or not self.ignored.excludes(path):
            return False
        if not self.ignored.may_enter(path):
            return True
        entry = self._resolve(path)[1]
        return entry is None or not entry.is_directory or len(list(self.walk(Match(path, path, entry)))) == 1

    def _match(self, word: str) -> Match:
        """Return the file or directory at a path. Raises InvalidInput."""
        name = posixpath.normpath(word or ".").removeprefix("/")
        name = "" if name == "." else name
        leads_out = name.split("/")[0] == ".."
        if leads_out and self.keeps_owners:  # a root file system: the parent of / is /
            name, leads_out = posixpath.normpath("/" + name)[1:], False
        inside, entry = (name, None) if leads_out else self._resolve(name)
        if entry is None or self._is_excluded(name) or (inside != name and self._is_excluded(inside)):
            raise self._missing(word, name, leads_out=leads_out)
        return Match(name, inside, entry)

    def _missing(self, word: str, name: str, *, leads_out: bool) -> InvalidInput:
        reason = f"stat {word}: file does not exist"
        if self.keeps_owners:
            return InvalidInput(reason, hint="paths of COPY --from start at the root of that stage or image")
        hint = "paths of COPY and ADD start at the build context"
        if leads_out:
            hint = "the build context ends at its folder: .. does not lead out of it"
            return InvalidInput(f"forbidden path outside the build context: {word} ()", hint=hint)
        if self.ignored.excludes(name):
            hint = "a pattern in .dockerignore excludes it"
        return InvalidInput(f"file not found in build context or excluded by .dockerignore: {reason}", hint=hint)

    def _resolve(self, name: str) -> tuple[str, ContextEntry | None]:
        """Resolve the links of a path inside the context. Returns (path, entry), with None if it does not exist."""
        with opened_inside(self.directory, name or ".", os.O_PATH) as fd:
            if fd is None:
                return name, None
            path = os.readlink(f"/proc/self/fd/{fd}")  # the kernel's result, without a second resolution in Python
            inside = path[len(self.directory.rstrip("/")) + 1 :]
            return inside, ContextEntry.of("", path, os.fstat(fd))

    def _glob(self, inside: str, components: Sequence[Glob]) -> Iterator[str]:
        """Yield the paths that match, component by component: * does not match a slash (Go's filepath.Match)."""
        first, *rest = components
        try:
            entries = _sorted_entries(os.path.join(self.directory, inside))
        except OSError:
            return
        for entry in entries:
            self.check()
            if not first.matches(entry.name):
                continue
            path = posixpath.join(inside, entry.name)
            if not rest:
                yield path
            elif entry.is_dir(follow_symlinks=False):
                yield from self._glob(path, rest)


def has_wildcards(word: str) -> bool:
    """Report whether a source argument has one of * ? [ without a backslash before it."""
    return any(match[1] for match in _WILDCARD.finditer(word))


def _apply_filters(filters: Sequence[Filter], inside: str, name: str) -> tuple[bool, bool, bool]:
    """Apply filters to an entry. Returns (keep it, walk it if it is a directory, .dockerignore excludes it)."""
    kept = enter = True
    ignored = False
    for each in filters:
        path = inside if each.in_whole_context else name
        if not each.keeps(path):
            kept = False
            ignored = ignored or each.in_whole_context
            enter = enter and each.may_keep_below(path)
    return kept, enter, ignored


def _implied_directory(entry: ContextEntry) -> ContextEntry:
    """An excluded directory that is needed for an entry below it: its own mode and time are not part of the context."""
    return ContextEntry(entry.name, "", stat.S_IFDIR | 0o755, mtime=time.time_ns())


def _sorted_entries(directory: str) -> list[os.DirEntry[str]]:
    with os.scandir(directory) as entries:
        return sorted(entries, key=lambda entry: entry.name)


@contextlib.contextmanager
def opened_inside(directory: str, path: str, flags: int) -> Iterator[int | None]:
    """Open a path inside directory while the block runs; yields its descriptor, or None if it does not exist.

    Links are resolved as if directory were /.
    """
    if "\0" in path:  # a system call would cut the path off there
        yield None
        return
    try:
        fd = open_path(directory, path, flags)
    except OSError:
        yield None
        return
    try:
        yield fd
    finally:
        os.close(fd)
