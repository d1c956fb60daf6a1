"""The files of an image archive, a tar or a directory; both are untrusted input."""

from __future__ import annotations

import contextlib
import os
import posixpath
import stat
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from pylab_container.errors import InvalidArchive
from pylab_container.host import linux
from pylab_container.images.source import opened
from pylab_container.store import compression
from pylab_container.store.data_root import DataRoot

MAX_DOCUMENT_SIZE = 16 << 20  # bytes of a manifest or config
MAX_MEMBERS = 100_000  # of a tar; an image has a few members for each layer
MAX_LINKS = 40  # followed for one name, as the kernel does (path_resolution(7))
READ_SIZE = 1 << 20  # bytes


class ArchiveFiles(Protocol):
    """An archive's files by their names in it."""

    def has(self, name: str) -> bool:
        """Whether the archive has a file with this name."""

    def open(self, name: str) -> contextlib.AbstractContextManager[BinaryIO]:
        """Open a file while the block runs. Raises InvalidArchive if it does not exist."""


@contextlib.contextmanager
def open_archive(data: DataRoot, source: str | Path | BinaryIO, max_size: int | None) -> Iterator[ArchiveFiles]:
    """Open an archive: a directory, or a tar from a path or a stream.

    A tar that is compressed or cannot be seeked is unpacked into a temporary file first, of at most max_size bytes.
    Raises InvalidInput, InvalidArchive.
    """
    if isinstance(source, str | Path) and Path(source).is_dir():
        yield _DirectoryFiles(Path(source))
        return
    with opened(source) as (stream, _):
        if _is_plain(stream):
            yield _TarFiles(stream)
            return
        with data.scratch() as scratch, tempfile.TemporaryFile(dir=scratch) as spool:
            with compression.Limit(max_size, scratch).stream(compression.decompressed(stream)) as plain:
                while chunk := plain.read(READ_SIZE):
                    spool.write(chunk)
            spool.seek(0)
            yield _TarFiles(cast(BinaryIO, spool))


def _is_plain(stream: BinaryIO) -> bool:
    """Whether a stream can be seeked and is not compressed."""
    try:
        if not stream.seekable():
            return False
        start = stream.tell()
        first = stream.read(6)
        stream.seek(start)
    except (OSError, AttributeError):
        return False
    return compression.kind(first) == ""


def read_document(files: ArchiveFiles, name: str) -> bytes:
    """Read a manifest, a config or an index.

    Raises InvalidArchive if it is missing or too long.
    """
    with files.open(name) as file:
        raw = file.read(MAX_DOCUMENT_SIZE + 1)
    if len(raw) > MAX_DOCUMENT_SIZE:
        raise InvalidArchive(f"{name} is longer than {MAX_DOCUMENT_SIZE} bytes", hint="do not trust this archive")
    return raw


class _TarFiles:
    """The members of a tar that can be seeked. Links lead to other members, never to the disk."""

    def __init__(self, stream: BinaryIO) -> None:
        try:
            self._tar = tarfile.open(fileobj=stream, mode="r:")  # noqa: SIM115 (the caller closes the stream)
            self._members: dict[str, tarfile.TarInfo] = {}
            for member in self._tar:
                self._members[posixpath.normpath(member.name)] = member
                if len(self._members) > MAX_MEMBERS:
                    raise InvalidArchive("the archive has too many files", hint="is it a root file system? import it")
        except (tarfile.TarError, EOFError, ValueError, OSError, RecursionError) as error:
            raise InvalidArchive(
                f"not an image archive: {error}", hint="give a tar made by labctr save or docker save"
            ) from error

    def has(self, name: str) -> bool:
        return name in self._members

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        member = self._follow_links(posixpath.normpath(name))
        file = self._tar.extractfile(member) if member is not None and member.isfile() else None
        if file is None:
            raise InvalidArchive(
                f'the archive has no file "{name}", which it names', hint="the archive is cut off or hostile"
            )
        with file:
            yield cast(BinaryIO, file)

    def _follow_links(self, name: str) -> tarfile.TarInfo | None:
        """The member that a name leads to; None for a loop or a missing member. Docker 20.10 writes symbolic links."""
        for _ in range(MAX_LINKS):
            member = self._members.get(name)
            if member is None or not (member.issym() or member.islnk()):
                return member
            directory = posixpath.dirname(name) if member.issym() else ""
            name = posixpath.normpath(posixpath.join(directory, member.linkname))
        return None


class _DirectoryFiles:
    """An OCI image layout in a directory. No file outside it is read."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def has(self, name: str) -> bool:
        return (self._directory / name).is_file()

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        base = os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # Non-blocking: opening a fifo that replaces a blob would block until a writer opens it.
            fd = linux.openat2(base, name, os.O_RDONLY | os.O_NONBLOCK, resolve=linux.RESOLVE_BENEATH)
        except OSError as error:
            raise InvalidArchive(
                f'the image layout has no file "{name}", which it names: {error.strerror}',
                hint="the layout is not complete",
            ) from error
        finally:
            os.close(base)
        with open(fd, "rb", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise InvalidArchive(f'"{name}" in the image layout is not a file', hint="do not trust this directory")
            yield cast(BinaryIO, file)
