"""The build context: the files that COPY and ADD may read, and nothing outside of them.

A folder, an archive that was piped in, or the root of another stage: all three are a
directory on the host, and links inside it are followed as if it were the root of everything.
"""

from __future__ import annotations

import contextlib
import io
import os
import posixpath
import re
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from msgspec import Struct, field

from pylab_container.dockerfile.dockerignore import IgnorePatterns
from pylab_container.errors import InvalidArchive, InvalidInput
from pylab_container.host import linux
from pylab_container.oci import tar
from pylab_container.store import compression
from pylab_container.store.extraction import extract
from pylab_container.store.extractor import Extractor
from pylab_container.store.layertar import TarReader
from pylab_container.text.globs import Glob, match_steps

Scratch = Callable[[], AbstractContextManager[Path]]
"""Gives a directory that is gone when its block ends."""

DOCKERFILE = "Dockerfile"
_LARGEST_DOCKERFILE = 16 << 20  # one that is larger is no Dockerfile
_LARGEST_IGNORE_FILE = 1 << 20  # bytes: every file of the context is compared with all of it
_WILDCARD = re.compile(r"(?s)\\.|([*?\[])")


class Entry(Struct):
    """One file, directory or link of a context.

    name     relative to the source that was asked for; "" is the source itself
    path     where it lies on the host; "" for one that lies nowhere
    mode     as st_mode: kind and permissions
    mtime    nanoseconds since the epoch
    size     bytes of a file's content
    link     a symbolic link's target; of a file with several names, the name (as in `name`) of one before it
    content  a file's content, where it is held in memory
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
        """Whether it is a directory; a link to one is a link."""
        return stat.S_ISDIR(self.mode)

    @classmethod
    def of(cls, name: str, path: str, status: os.stat_result) -> Entry:
        """The entry of something on the host."""
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


class Found(Struct, frozen=True):
    """What a source argument stands for.

    name    as asked for, cleaned: "link/file"
    inside  where in the context it lies: "directory/file"
    entry   the thing there
    """

    name: str
    inside: str
    entry: Entry


class Filter(Struct, frozen=True):
    """Which entries below a source are meant.

    keeps_matches     True: only what a pattern names; False: all but what a pattern names
    in_whole_context  the patterns start at the context's top, as those of .dockerignore; else at the source
    """

    patterns: IgnorePatterns
    keeps_matches: bool = False
    in_whole_context: bool = False

    def keeps(self, path: str) -> bool:
        """Whether an entry stays. path starts where the patterns start."""
        return self.patterns.covers(path) == self.keeps_matches

    def may_keep_below(self, directory: str) -> bool:
        """Whether something below a directory that does not stay itself may stay. True where that is hard to tell."""
        if self.in_whole_context:
            return self.patterns.may_enter(directory)
        if self.keeps_matches:
            return any(pattern.may_match_below(directory) for pattern in self.patterns.patterns)
        return self.patterns.may_contain_exceptions(directory)


class _Directory(NamedTuple):
    """A directory still to be walked.

    skipped  it and those above that no filter kept: they come along if something below them does
    """

    path: str
    inside: str
    name: str
    skipped: tuple[Entry, ...]


class BuildContext:
    """A tree that COPY and ADD read.

    directory     where it lies on the host
    ignored       the patterns of its .dockerignore
    keeps_owners  its files belong to whom they belong; those of a user's folder come to belong to root
    check         called for each file that is compared with patterns; it raises an error to end the walk
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        ignored: IgnorePatterns | None = None,
        keeps_owners: bool = False,
        downloads: Callable[[], Path] | None = None,
    ) -> None:
        """downloads gives a directory for what ADD fetches; none: such an ADD is refused."""
        self.directory = os.path.realpath(directory)
        self.ignored = ignored or IgnorePatterns(())
        self.keeps_owners = keeps_owners
        self.check: Callable[[], object] = lambda: None
        self._downloads = downloads

    @classmethod
    def of_root(cls, root: str | Path) -> BuildContext:
        """The files of a stage or an image, mounted at root: what COPY --from reads."""
        return cls(root, keeps_owners=True)

    def downloads(self) -> Path:
        """A directory for what ADD fetches; it is there as long as the context is open."""
        if self._downloads is None:
            raise InvalidInput("source can't be a URL together with --from", hint="download it in a step of its own")
        return self._downloads()

    def find(self, word: str) -> list[Found]:
        """What a source argument stands for; a pattern may mean several things, or nothing.

        Raises InvalidInput for a path where nothing is, or one that .dockerignore excludes.
        """
        word = word.removeprefix("/").removeprefix("./")
        if not has_wildcards(word):
            return [self._found(word)]
        names = self._glob("", [Glob(match_steps(each)) for each in word.rstrip("/").split("/")])
        return [self._found(name) for name in names if not self._is_excluded(name)]

    def walk(self, found: Found, filters: Sequence[Filter] = ()) -> Iterator[Entry]:
        """What is found and all below it that .dockerignore and the filters keep; a directory before its content.

        The order is the same for equal trees. What a process listens at, a socket, is left out:
        it is nothing without the process.
        """
        excluded = bool(found.inside and self.ignored.patterns) and self.ignored.excludes(found.inside)
        yield _implied(found.entry) if excluded else found.entry
        if not found.entry.is_directory:
            return
        if self.ignored.patterns:
            filters = [Filter(self.ignored, in_whole_context=True), *filters]
        names: dict[tuple[int, int], str] = {}
        told: set[str] = set()
        waiting = [_Directory(found.entry.path, found.inside, "", ())]
        while waiting:
            directory = waiting.pop()
            below = []
            for entry, nested, kept in self._scan(directory, filters, names):
                if kept:
                    for above in directory.skipped:
                        if above.name not in told:
                            told.add(above.name)
                            yield above
                    yield entry
                if nested:
                    below.append(nested)
            waiting += reversed(below)

    def _scan(
        self, directory: _Directory, filters: Sequence[Filter], names: dict[tuple[int, int], str]
    ) -> Iterator[tuple[Entry, _Directory | None, bool]]:
        """What is in a directory: each with the directory that it is, and whether it is kept."""
        prefix = f"{directory.name}/" if directory.name else ""
        for each in _sorted(directory.path):
            self.check()
            status = each.stat(follow_symlinks=False)
            mode = status.st_mode
            if stat.S_ISSOCK(mode):
                continue
            entry = Entry.of(prefix + each.name, each.path, status)
            inside = posixpath.join(directory.inside, each.name) if filters else ""
            kept, enter, ignored = _judge(filters, inside, entry.name)
            if stat.S_ISDIR(mode):
                nested = None
                if enter:
                    inside = inside or posixpath.join(directory.inside, each.name)
                    skipped = () if kept else (*directory.skipped, _implied(entry) if ignored else entry)
                    nested = _Directory(each.path, inside, entry.name, skipped)
                yield entry, nested, kept
            elif kept:
                self._complete(entry, status, names)
                yield entry, None, True

    def _complete(self, entry: Entry, status: os.stat_result, names: dict[tuple[int, int], str]) -> None:
        if stat.S_ISLNK(entry.mode):
            entry.link = os.readlink(entry.path)
        elif status.st_nlink > 1 and stat.S_ISREG(entry.mode):
            first = names.setdefault((status.st_dev, status.st_ino), entry.name)
            entry.link = first if first != entry.name else ""

    def _is_excluded(self, path: str) -> bool:
        """Whether nothing at or below a path is part of the context."""
        if not path or not self.ignored.patterns or not self.ignored.excludes(path):
            return False
        if not self.ignored.may_enter(path):
            return True
        entry = self._look(path)[1]
        return entry is None or not entry.is_directory or len(list(self.walk(Found(path, path, entry)))) == 1

    def _found(self, word: str) -> Found:
        name = posixpath.normpath(word or ".").removeprefix("/")
        name = "" if name == "." else name
        leads_out = name.split("/")[0] == ".."
        if leads_out and self.keeps_owners:  # in a root, .. of / is /
            name, leads_out = posixpath.normpath("/" + name)[1:], False
        inside, entry = (name, None) if leads_out else self._look(name)
        if entry is None or self._is_excluded(name) or (inside != name and self._is_excluded(inside)):
            raise self._missing(word, name, leads_out=leads_out)
        return Found(name, inside, entry)

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

    def _look(self, name: str) -> tuple[str, Entry | None]:
        """Where in the context a path leads, with links resolved inside it, and what is there."""
        with _opened(self.directory, name or ".", os.O_PATH) as found:
            if found is None:
                return name, None
            path = os.readlink(f"/proc/self/fd/{found}")
            inside = path[len(self.directory.rstrip("/")) + 1 :]
            return inside, Entry.of("", path, os.fstat(found))

    def _glob(self, inside: str, components: Sequence[Glob]) -> Iterator[str]:
        """The paths that match, component by component: a * does not match a slash (Go's filepath.Match)."""
        first, *rest = components
        try:
            entries = _sorted(os.path.join(self.directory, inside))
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
    """Whether a source argument is a pattern: it has one of * ? [ without a backslash before it."""
    return any(match[1] for match in _WILDCARD.finditer(word))


def _judge(filters: Sequence[Filter], inside: str, name: str) -> tuple[bool, bool, bool]:
    """What the filters say of an entry: whether it is kept, may be entered, and .dockerignore has it."""
    kept = enter = True
    ignored = False
    for each in filters:
        path = inside if each.in_whole_context else name
        if not each.keeps(path):
            kept = False
            ignored = ignored or each.in_whole_context
            enter = enter and each.may_keep_below(path)
    return kept, enter, ignored


def _implied(entry: Entry) -> Entry:
    """A directory that is only there because something below it is: its own mode and time stay out of the context."""
    return Entry(entry.name, "", stat.S_IFDIR | 0o755, mtime=time.time_ns())


def _sorted(directory: str) -> list[os.DirEntry[str]]:
    with os.scandir(directory) as entries:
        return sorted(entries, key=lambda entry: entry.name)


@contextlib.contextmanager
def _opened(directory: str, path: str, flags: int) -> Iterator[int | None]:
    """A path inside directory, its links resolved there; None where nothing is."""
    if "\0" in path:  # a system call would not see what comes behind
        yield None
        return
    base = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = linux.openat2(base, path, flags, resolve=linux.RESOLVE_IN_ROOT)
    except OSError:
        yield None
        return
    finally:
        os.close(base)
    try:
        yield fd
    finally:
        os.close(fd)


# ---- where it comes from -------------------------------------------------------------


class OpenedContext(NamedTuple):
    """A context, the content of the Dockerfile, and what the Dockerfile is called in messages."""

    context: BuildContext
    dockerfile: bytes
    name: str


@contextlib.contextmanager
def open_context(
    source: str | Path | BinaryIO,
    scratch: Scratch,
    *,
    dockerfile: str | Path | BinaryIO | None = None,
    limit: int | None = None,
) -> Iterator[OpenedContext]:
    """What a build reads, as long as the block runs.

    source      a folder; or a stream ("-": standard input) with an archive of one, compressed or
                not, or with a Dockerfile alone, for which the context is empty
    scratch     where an archive is unpacked and downloads go
    dockerfile  a file in the context, or any other (absolute or relative to the current directory);
                a stream ("-": standard input); None: "Dockerfile" in the context, or "dockerfile"
    limit       bytes that an archive may unpack to; None: what the disk has to spare

    Patterns come from <Dockerfile>.dockerignore beside the Dockerfile, else from .dockerignore.

    Raises InvalidInput, InvalidArchive.
    """
    with contextlib.ExitStack() as stack:
        downloads = _Downloads(stack, scratch)
        stream = _stream(source)
        if stream is None:
            opened = _open_folder(str(source), dockerfile)
        elif _stream(dockerfile) is not None:
            raise InvalidInput(
                "can't use stdin for both build context and dockerfile",
                hint="give a folder, or name a Dockerfile in it",
            )
        else:
            opened = _open_stream(stream, stack.enter_context(scratch()), dockerfile, limit)
        opened.context._downloads = downloads
        yield opened


class _Downloads:
    """A directory made when it is first asked for; stages that build at once share it."""

    def __init__(self, stack: contextlib.ExitStack, scratch: Scratch) -> None:
        self._stack, self._scratch = stack, scratch
        self._lock = threading.Lock()
        self._directory: Path | None = None

    def __call__(self) -> Path:
        with self._lock:
            if self._directory is None:
                self._directory = self._stack.enter_context(self._scratch())
            return self._directory


def _stream(source: str | Path | BinaryIO | None) -> BinaryIO | None:
    if source == "-":
        return sys.stdin.buffer
    return None if source is None or isinstance(source, str | Path) else source


def _open_folder(directory: str, dockerfile: str | Path | BinaryIO | None) -> OpenedContext:
    if not os.path.isdir(directory):
        raise InvalidInput(
            f"unable to prepare context: path {directory!r} not found or no directory",
            hint="the last argument of a build is a folder; often it is . (this folder)",
        )
    directory = os.path.realpath(directory)
    stream = _stream(dockerfile)
    if stream is not None:
        text = _limited(stream.read(_LARGEST_DOCKERFILE + 1), DOCKERFILE)
        return OpenedContext(BuildContext(directory, ignored=_patterns(directory, "")), text, DOCKERFILE)
    assert dockerfile is None or isinstance(dockerfile, str | Path)
    name = _name_inside(directory, dockerfile)
    if name is None:
        path = os.path.abspath(str(dockerfile))
        text = _read_regular(os.path.dirname(path) or "/", os.path.basename(path), str(dockerfile), within=False)
        ignored = _patterns(os.path.dirname(path), os.path.basename(path), fallback=directory)
        return OpenedContext(BuildContext(directory, ignored=ignored), text, str(dockerfile))
    text = _read_regular(directory, name, name)
    return OpenedContext(BuildContext(directory, ignored=_patterns(directory, name)), text, name)


def _name_inside(directory: str, dockerfile: str | Path | None) -> str | None:
    """The Dockerfile's path in the context; None where it lies outside of it."""
    if dockerfile is None:
        for name in (DOCKERFILE, DOCKERFILE.lower()):
            with _opened(directory, name, os.O_PATH) as found:
                if found is not None:
                    return name
        return DOCKERFILE
    name = str(dockerfile)
    if not os.path.isabs(name):
        with _opened(directory, name, os.O_PATH) as found:
            if found is not None and not posixpath.normpath(name).startswith("../"):
                return posixpath.normpath(name)
        if not os.path.lexists(name):
            return name
    path = os.path.join(os.path.realpath(os.path.dirname(os.path.abspath(name))), os.path.basename(name))
    return os.path.relpath(path, directory) if path.startswith(directory.rstrip("/") + "/") else None


def _read_regular(directory: str, name: str, shown: str, *, within: bool = True) -> bytes:
    """A Dockerfile's content. within: no link leads out of the directory. Never waits, as a fifo would make it."""
    try:
        if within:
            base = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fd = linux.openat2(base, name, os.O_RDONLY | os.O_NONBLOCK, resolve=linux.RESOLVE_IN_ROOT)
            finally:
                os.close(base)
        else:
            fd = os.open(os.path.join(directory, name), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise InvalidInput(
            f"failed to read Dockerfile {shown}: {error.strerror}", hint="name the file with -f, or check the folder"
        ) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise InvalidInput(
            f"failed to read Dockerfile {shown}: it is no regular file", hint="give one from standard input with -f -"
        )
    with open(fd, "rb") as file:
        return _limited(file.read(_LARGEST_DOCKERFILE + 1), shown)


def _limited(text: bytes, name: str) -> bytes:
    if not text:
        raise InvalidInput(f"the Dockerfile ({name}) cannot be empty", hint="a Dockerfile begins with FROM image")
    if len(text) > _LARGEST_DOCKERFILE:
        raise InvalidInput(f"the Dockerfile ({name}) is too large", hint="is it a Dockerfile?")
    return text


def _patterns(directory: str, dockerfile: str, *, fallback: str = "") -> IgnorePatterns:
    """The patterns of <dockerfile>.dockerignore in directory, else of .dockerignore in fallback (or directory)."""
    places = [(directory, f"{dockerfile}.dockerignore")] if dockerfile else []
    for top, name in [*places, (fallback or directory, ".dockerignore")]:
        with _opened(top, name, os.O_RDONLY | os.O_NONBLOCK) as fd:
            if fd is None:
                continue
            try:
                with open(fd, "rb", closefd=False) as file:
                    text = file.read(_LARGEST_IGNORE_FILE + 1)
            except OSError as error:
                raise InvalidInput(f"cannot read {name}: {error.strerror}", hint="is it a file?") from error
        if len(text) > _LARGEST_IGNORE_FILE:
            hint = "write fewer patterns: a directory's name stands for all that is in it"
            raise InvalidInput(f"{name} is larger than {_LARGEST_IGNORE_FILE} bytes", hint=hint)
        return IgnorePatterns.parse(text.decode(errors="surrogateescape"))
    return IgnorePatterns(())


def _open_stream(
    stream: BinaryIO, directory: Path, dockerfile: str | Path | BinaryIO | None, limit: int | None
) -> OpenedContext:
    """A context from a pipe: an archive is unpacked into directory, a Dockerfile finds it empty."""
    start = b""
    while len(start) < tar.BLOCK and (more := stream.read(tar.BLOCK - len(start))):
        start += more
    whole = cast(BinaryIO, io.BufferedReader(_Joined(start, stream)))
    if not _is_archive(start):
        text = _limited(whole.read(_LARGEST_DOCKERFILE + 1), DOCKERFILE)
        return OpenedContext(BuildContext(directory), text, DOCKERFILE)
    content = compression.Limit(limit, directory).stream(compression.decompressed(whole))
    with content, Extractor(directory, whiteouts=False) as extractor:
        extract(TarReader(content), extractor)
    assert dockerfile is None or isinstance(dockerfile, str | Path)
    name = str(dockerfile) if dockerfile else _name_inside(str(directory), None) or DOCKERFILE
    text = _read_regular(str(directory), name, name)
    return OpenedContext(BuildContext(directory, ignored=_patterns(str(directory), name)), text, name)


def _is_archive(start: bytes) -> bool:
    """Whether a stream that begins so is a tar, compressed or not: as the docker command finds it out."""
    if compression.kind(start):
        return True
    try:
        return len(start) == tar.BLOCK and bool(tar.parse_header(start))
    except InvalidArchive:
        return False


class _Joined(io.RawIOBase):
    """Bytes that were read already, and the stream that they are from."""

    def __init__(self, start: bytes, stream: BinaryIO) -> None:
        self._start, self._stream = start, stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._start[: len(buffer)] or self._stream.read(len(buffer))
        self._start = self._start[len(data) :]
        buffer[: len(data)] = data
        return len(data)
