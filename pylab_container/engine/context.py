"""The build context: the folder whose files a Dockerfile may copy, and nothing outside it."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import posixpath
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pylab_container.errors import InvalidInput
from pylab_container.formats import tar
from pylab_container.formats.dockerignore import IgnorePatterns
from pylab_container.host import linux

_WILDCARDS = frozenset("*?[")


@dataclass(frozen=True)
class Entry:
    """One file, directory or link of a context.

    name  relative to the source that was asked for; "" is the source itself
    path  where it lies on the host
    """

    name: str
    path: str
    status: os.stat_result

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory; a link to one is a link."""
        return stat.S_ISDIR(self.status.st_mode)

    def header(self, name: str) -> tar.Header:
        """The entry as a member of an archive, under another name and owned by root as all that is copied."""
        header = tar.Header(
            name=name,
            mode=stat.S_IMODE(self.status.st_mode),
            mtime=self.status.st_mtime_ns // 10**9 * 10**9,  # whole seconds, as the docker command sends them
        )
        if self.is_directory:
            header.kind = tar.DIRECTORY
        elif stat.S_ISLNK(self.status.st_mode):
            header.kind, header.link = tar.SYMLINK, os.readlink(self.path)
        elif stat.S_ISREG(self.status.st_mode):
            header.size = self.status.st_size
        elif stat.S_ISFIFO(self.status.st_mode):
            header.kind = tar.FIFO
        else:
            raise InvalidInput(f"{self.path} is a device or a socket", hint="add it to .dockerignore")
        return header


@dataclass(frozen=True)
class Source:
    """What one argument of COPY or ADD stands for: `path` in the context, and the entry there."""

    path: str
    entry: Entry


class BuildContext:
    """A folder on the host. Links inside it are followed as if it were the root of everything."""

    def __init__(self, directory: str | Path, *, name: str = "") -> None:
        """Raises InvalidInput where directory is none, or where its .dockerignore cannot be understood."""
        self.directory = os.path.realpath(directory)
        if not os.path.isdir(self.directory):
            raise InvalidInput(
                f"unable to prepare context: path {str(directory)!r} not found or no directory",
                hint="the last argument of a build is a folder; often it is . (this folder)",
            )
        self._ignored = IgnorePatterns.parse(_text(Path(self.directory, ".dockerignore")))

    def read(self, path: str) -> bytes:
        """A file's content, also of one that .dockerignore excludes: the Dockerfile. Raises InvalidInput."""
        try:
            return Path(path if os.path.isabs(path) else Path(self.directory, path)).read_bytes()
        except OSError as error:
            raise InvalidInput(
                f"failed to read Dockerfile {path}: {error.strerror}", hint="name the file with -f, or check the folder"
            ) from error

    def find(self, pattern: str) -> list[Source]:
        """What a source argument stands for; a pattern may mean several things. Raises InvalidInput for nothing."""
        cleaned = posixpath.normpath("/" + pattern)[1:]
        names = list(self._glob("", cleaned.split("/"))) if _WILDCARDS & set(cleaned) else [cleaned]
        sources = [Source(name, entry) for name in names if (entry := self._entry(name)) is not None]
        if not sources:
            hint = "paths of COPY and ADD start at the build context"
            if self._ignored.excludes(cleaned):
                hint = "a pattern in .dockerignore excludes it"
            elif pattern.startswith(("../", "..")):
                hint = "the build context ends at its folder: .. does not lead out of it"
            raise InvalidInput(f"{pattern}: file not found in build context", hint=hint)
        return sources

    def walk(self, source: Source) -> Iterator[Entry]:
        """A source and everything below it, in sorted order, without what .dockerignore excludes."""
        yield source.entry
        if source.entry.is_directory:
            yield from self._below(source.entry.path, source.path, "")

    def digest(self, sources: Sequence[Source]) -> str:
        """What identifies the sources' content: "file:…", "dir:…" or "multi:…" with a SHA-256.

        Names, kinds, modes and contents count; times and owners do not: a touched file is the same.
        """
        digest = hashlib.sha256()
        for source in sources:
            for entry in self.walk(source):
                digest.update(_fingerprint(entry, source if len(sources) > 1 else None))
        kind = "multi" if len(sources) > 1 else "dir" if sources[0].entry.is_directory else "file"
        return f"{kind}:{digest.hexdigest()}"

    def _entry(self, name: str) -> Entry | None:
        """The thing at a path of the context, with links resolved inside it; None if excluded or missing."""
        if name and self._ignored.excludes(name) and not self._ignored.may_contain_exceptions(name):
            return None
        base = os.open(self.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            found = linux.openat2(base, name or ".", os.O_PATH, resolve=linux.RESOLVE_IN_ROOT)
        except OSError:
            return None
        finally:
            os.close(base)
        try:
            return Entry("", os.readlink(f"/proc/self/fd/{found}"), os.fstat(found))
        finally:
            os.close(found)

    def _below(self, directory: str, inside: str, name: str) -> Iterator[Entry]:
        with os.scandir(directory) as found:
            ordered = sorted(found, key=lambda entry: entry.name)
        for each in ordered:
            path = posixpath.join(inside, each.name)
            relative = posixpath.join(name, each.name)
            excluded = self._ignored.excludes(path)
            entry = Entry(relative, each.path, each.stat(follow_symlinks=False))
            if not excluded:
                yield entry
            if entry.is_directory and (not excluded or self._ignored.may_contain_exceptions(path)):
                yield from self._below(each.path, path, relative)

    def _glob(self, inside: str, components: Sequence[str]) -> Iterator[str]:
        """The paths that match, component by component: a * does not match a slash (Go's filepath.Match)."""
        first, *rest = components
        pattern = first.replace("[^", "[!")
        try:
            names = sorted(os.listdir(os.path.join(self.directory, inside)))
        except OSError:
            return
        for name in names:
            path = posixpath.join(inside, name)
            if not fnmatch.fnmatchcase(name, pattern) or (not rest and self._ignored.excludes(path)):
                continue
            if rest:
                yield from self._glob(path, rest)
            else:
                yield path


def _fingerprint(entry: Entry, source: Source | None) -> bytes:
    mode = entry.status.st_mode
    content = ""
    if stat.S_ISREG(mode):
        with open(entry.path, "rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
    elif stat.S_ISLNK(mode):
        content = os.readlink(entry.path)
    name = posixpath.join(posixpath.basename(source.path), entry.name) if source else entry.name
    return b"%s\0%o\0%s\n" % (os.fsencode(name), mode, os.fsencode(content))


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="surrogateescape")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}", hint="is it a file?") from error
