"""The context of a build and its Dockerfile, from what the caller gives: a folder, an archive, or a Dockerfile alone.

    source    a folder; or a stream with an archive, which is unpacked, or with a Dockerfile, whose context is empty
    file      in the folder, outside of it, or in a second stream
    ignored   the patterns of <Dockerfile>.dockerignore, else those of .dockerignore

context.py is the tree that COPY and ADD then read.
"""

from __future__ import annotations

import contextlib
import io
import os
import posixpath
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from pylab_container.build.context import BuildContext, opened_inside
from pylab_container.dockerfile.dockerignore import IgnorePatterns
from pylab_container.errors import InvalidArchive, InvalidInput
from pylab_container.host import inside
from pylab_container.oci import tar
from pylab_container.store import compression
from pylab_container.store.extraction import extract
from pylab_container.store.extractor import Extractor
from pylab_container.store.layertar import TarReader

Scratch = Callable[[], AbstractContextManager[Path]]
"""Returns a context manager for a temporary directory."""

DOCKERFILE = "Dockerfile"
MAX_DOCKERFILE_SIZE = 16 << 20  # bytes
MAX_IGNORE_FILE_SIZE = 1 << 20  # bytes; every file of the context is compared with all patterns


class OpenedContext(NamedTuple):
    """A context, the content of the Dockerfile, and the Dockerfile's name in messages."""

    context: BuildContext
    dockerfile: bytes
    name: str


class _DockerfileText(NamedTuple):
    """The content of a Dockerfile, its name in messages, and the ignore patterns that apply to its context."""

    text: bytes
    name: str
    ignored: IgnorePatterns


@contextlib.contextmanager
def open_context(
    source: str | Path | BinaryIO,
    scratch: Scratch,
    *,
    dockerfile: str | Path | BinaryIO | None = None,
    limit: int | None = None,
) -> Iterator[OpenedContext]:
    """Open the context of a build while the block runs.

    source      a folder; or a stream ("-": standard input) with an archive of one, compressed or not, or with a
                single Dockerfile, for which the context is empty
    scratch     for the content of an archive, and for downloads
    dockerfile  a file in the context, or another file (absolute or relative to the current directory); a stream ("-":
                standard input); None: "Dockerfile" or "dockerfile" in the context
    limit       maximum size of an unpacked archive in bytes; None: 95 % of the disk's free space

    The ignore patterns are those of <Dockerfile>.dockerignore beside the Dockerfile, else those of .dockerignore.

    Raises InvalidInput, InvalidArchive.
    """
    with contextlib.ExitStack() as stack:
        stream = _stream(source)
        if stream is None:
            directory = _real_directory(str(source))
            file = _dockerfile_of_folder(directory, dockerfile)
        elif _stream(dockerfile) is not None:
            raise InvalidInput(
                "can't use stdin for both build context and dockerfile",
                hint="give a folder, or name a Dockerfile in it",
            )
        else:
            unpacked = stack.enter_context(scratch())
            directory, file = str(unpacked), _dockerfile_of_stream(stream, unpacked, dockerfile, limit)
        context = BuildContext(directory, ignored=file.ignored, downloads=_Downloads(stack, scratch))
        yield OpenedContext(context, file.text, file.name)


class _Downloads:
    """The directory of the downloads of ADD. It is created at the first call, since few builds download a file."""

    def __init__(self, stack: contextlib.ExitStack, scratch: Scratch) -> None:
        self._stack, self._scratch = stack, scratch
        self._lock = threading.Lock()
        self._directory: Path | None = None

    def __call__(self) -> Path:
        with self._lock:  # concurrent stages may both ADD a URL
            if self._directory is None:
                self._directory = self._stack.enter_context(self._scratch())
            return self._directory


def _stream(source: str | Path | BinaryIO | None) -> BinaryIO | None:
    if source == "-":
        return sys.stdin.buffer
    return None if source is None or isinstance(source, str | Path) else source


# -- a folder --------------------------------------------------------------------------------------


def _real_directory(path: str) -> str:
    """Return the absolute path of a folder, without symbolic links. Raises InvalidInput."""
    if not os.path.isdir(path):
        raise InvalidInput(
            f"unable to prepare context: path {path!r} not found or not a directory",
            hint="the last argument of a build is a folder; often it is . (this folder)",
        )
    return os.path.realpath(path)


def _dockerfile_of_folder(directory: str, dockerfile: str | Path | BinaryIO | None) -> _DockerfileText:
    """Read the Dockerfile for a folder: from a stream, from the folder, or from elsewhere. Raises InvalidInput."""
    stream = _stream(dockerfile)
    if stream is not None:
        text = _checked(stream.read(MAX_DOCKERFILE_SIZE + 1), DOCKERFILE)
        return _DockerfileText(text, DOCKERFILE, _patterns(directory, ""))
    assert dockerfile is None or isinstance(dockerfile, str | Path)
    name = _name_inside(directory, dockerfile)
    if name is not None:
        return _DockerfileText(_read_inside(directory, name), name, _patterns(directory, name))
    path = os.path.abspath(str(dockerfile))
    text = _read_outside(path, str(dockerfile))
    ignored = _patterns(os.path.dirname(path), os.path.basename(path), fallback=directory)
    return _DockerfileText(text, str(dockerfile), ignored)


def _name_inside(directory: str, dockerfile: str | Path | None) -> str | None:
    """Return the Dockerfile's path in the context; None if it is outside.

    A missing file counts as inside, so that its error names the context.
    """
    if dockerfile is None:
        # As in moby (builder/remotecontext/detect.go, withDockerfileFromContext).
        for name in (DOCKERFILE, DOCKERFILE.lower()):
            with opened_inside(directory, name, os.O_PATH) as fd:
                if fd is not None:
                    return name
        return DOCKERFILE
    name = str(dockerfile)
    if not os.path.isabs(name):
        with opened_inside(directory, name, os.O_PATH) as fd:
            if fd is not None and not posixpath.normpath(name).startswith("../"):
                return posixpath.normpath(name)
        if not os.path.lexists(name):
            return name
    path = os.path.join(os.path.realpath(os.path.dirname(os.path.abspath(name))), os.path.basename(name))
    return os.path.relpath(path, directory) if path.startswith(directory.rstrip("/") + "/") else None


# -- an archive or a Dockerfile in a stream --------------------------------------------------------


def _dockerfile_of_stream(
    stream: BinaryIO, directory: Path, dockerfile: str | Path | BinaryIO | None, limit: int | None
) -> _DockerfileText:
    """Unpack an archive into directory and read its Dockerfile; or read the Dockerfile that the stream consists of."""
    start = b""
    while len(start) < tar.BLOCK and (more := stream.read(tar.BLOCK - len(start))):
        start += more  # a pipe returns what has been written so far, which may be less than a block
    whole = cast(BinaryIO, io.BufferedReader(_PrefixedStream(start, stream)))
    if not _is_archive(start):
        text = _checked(whole.read(MAX_DOCKERFILE_SIZE + 1), DOCKERFILE)
        return _DockerfileText(text, DOCKERFILE, IgnorePatterns(()))
    content = compression.Limit(limit, directory).stream(compression.decompressed(whole))
    with content, Extractor(directory, whiteouts=False) as extractor:
        extract(TarReader(content), extractor)
    assert dockerfile is None or isinstance(dockerfile, str | Path)
    name = str(dockerfile) if dockerfile else _name_inside(str(directory), None) or DOCKERFILE
    return _DockerfileText(_read_inside(str(directory), name), name, _patterns(str(directory), name))


def _is_archive(start: bytes) -> bool:
    """Report whether a stream starts as a tar, compressed or not; the docker command uses the same test."""
    if compression.kind(start):
        return True
    try:
        return len(start) == tar.BLOCK and bool(tar.parse_header(start))
    except InvalidArchive:
        return False


class _PrefixedStream(io.RawIOBase):
    """A stream preceded by the bytes that were already read from it: a pipe cannot seek back."""

    def __init__(self, start: bytes, stream: BinaryIO) -> None:
        self._start, self._stream = start, stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._start[: len(buffer)] or self._stream.read(len(buffer))
        self._start = self._start[len(data) :]
        buffer[: len(data)] = data
        return len(data)


# -- reading the Dockerfile and the ignore file ----------------------------------------------------


def _read_inside(directory: str, name: str) -> bytes:
    """Read a Dockerfile in the context; its links are resolved as if directory were /. Raises InvalidInput."""
    # O_NONBLOCK, here and below: to open a FIFO would wait for a writer, and a context may come from a stranger.
    return _read_regular(name, lambda: inside.open_path(directory, name, os.O_RDONLY | os.O_NONBLOCK))


def _read_outside(path: str, shown: str) -> bytes:
    """Read a Dockerfile that is not in the context: the user named it, so its links are followed as usual."""
    return _read_regular(shown, lambda: os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))


def _read_regular(shown: str, open_file: Callable[[], int]) -> bytes:
    """Read the Dockerfile that open_file opens. Raises InvalidInput if that fails, or for a device or a FIFO."""
    try:
        fd = open_file()
    except OSError as error:
        raise InvalidInput(
            f"failed to read Dockerfile {shown}: {error.strerror}",
            hint="a build reads the file Dockerfile of the folder, or the file that -f names",
        ) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise InvalidInput(
            f"failed to read Dockerfile {shown}: it is not a regular file", hint="give it on standard input with -f -"
        )
    with open(fd, "rb") as file:
        return _checked(file.read(MAX_DOCKERFILE_SIZE + 1), shown)


def _checked(text: bytes, name: str) -> bytes:
    """Return the content of a Dockerfile. Raises InvalidInput if it is empty or too large."""
    if not text:
        raise InvalidInput(f"the Dockerfile ({name}) cannot be empty", hint="a Dockerfile begins with FROM image")
    if len(text) > MAX_DOCKERFILE_SIZE:
        raise InvalidInput(f"the Dockerfile ({name}) is too large", hint="is it a Dockerfile?")
    return text


def _patterns(directory: str, dockerfile: str, *, fallback: str = "") -> IgnorePatterns:
    """Read <dockerfile>.dockerignore in directory, else .dockerignore in fallback or directory. Raises InvalidInput."""
    places = [(directory, f"{dockerfile}.dockerignore")] if dockerfile else []
    for top, name in [*places, (fallback or directory, ".dockerignore")]:
        with opened_inside(top, name, os.O_RDONLY | os.O_NONBLOCK) as fd:
            if fd is None:
                continue
            try:
                with open(fd, "rb", closefd=False) as file:
                    text = file.read(MAX_IGNORE_FILE_SIZE + 1)
            except OSError as error:
                raise InvalidInput(f"cannot read {name}: {error.strerror}", hint="check that it is a file") from error
        if len(text) > MAX_IGNORE_FILE_SIZE:
            hint = "write fewer patterns: a directory's name stands for all that is in it"
            raise InvalidInput(f"{name} is larger than {MAX_IGNORE_FILE_SIZE} bytes", hint=hint)
        return IgnorePatterns.parse(text.decode(errors="surrogateescape"))
    return IgnorePatterns(())
