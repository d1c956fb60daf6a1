"""Rebuild a layer's tar byte for byte from the extracted files.

A layer's diff id is the digest of its tar, but the tar is not kept: its files already lie
in the layer's directory. What is kept is everything *else*: the headers and the padding
between the contents, as a row of JSON lines, gzipped. The format is that of the tar-split
project, which Docker and containers/storage use:

    {"type":2,"payload":"<base64>","position":0}                      bytes as they are
    {"type":1,"name":"etc/hosts","size":9,"payload":"<crc>",…}        the content of a file

A sparse file's content in the tar is only its pieces, and the file on disk does not say where
the archiver saw holes. So these pieces are kept as bytes as they are, and the file as one
without content: it takes some space twice, and always comes back exact. (Docker records the
file with its holes filled, and cannot rebuild such a layer.)

A file's payload is the CRC-64 (ISO polynomial, as Go computes it) of its content, eight
bytes big-endian, so that a file changed behind our back is noticed.
"""

from __future__ import annotations

import binascii
import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from fastcrc import crc64
from isal import igzip, igzip_lib

from pylab_container.errors import CorruptStore, InvalidArchive
from pylab_container.host import linux
from pylab_container.store.reading import REMEDY, open_regular

FILE, SEGMENT = 1, 2
_CHUNK = 1 << 17  # bytes: what a client of the daemon that reads nothing keeps in memory
_ISAL_ERROR = cast(type[Exception], igzip_lib.IsalError)  # its stub declares an instance
_UNREADABLE = (OSError, EOFError, ValueError, KeyError, TypeError, _ISAL_ERROR)


_quoted = json.JSONEncoder(ensure_ascii=False).encode
"""A text as JSON; json.dumps() would make such an encoder for each."""


class TarSplitWriter:
    """Records a tar as it passes by: segments and file contents, in their order. The caller closes it."""

    def __init__(self, sink: BinaryIO) -> None:
        # No name and no time in the gzip header: equal layers give equal files.
        self._gzip = igzip.IGzipFile(filename="", mode="wb", fileobj=sink, compresslevel=1, mtime=0)
        self._lines: list[str] = []
        self._position = 0
        self._seen: set[str | bytes] = set()

    def segment(self, data: bytes) -> None:
        """Bytes of the tar that are no file's content."""
        payload = binascii.b2a_base64(data, newline=False).decode()
        self._add(f'{{"type":{SEGMENT},"payload":"{payload}","position":{self._position}}}\n')

    def file(self, name: str, size: int, checksum: int) -> None:
        """A member: its name in the tar, the bytes of content, and their CRC-64.

        Raises InvalidArchive for a name that came before: from one file on disk, two
        contents cannot be rebuilt. (dockerd refuses such layers too.)
        """
        path = _short(os.path.normpath("/" + name))
        if path in self._seen:
            raise InvalidArchive(
                f'the archive has the member "{name}" twice', hint="make it again without appending to an old archive"
            )
        self._seen.add(path)
        try:
            name.encode()
            told = f'"name":{_quoted(name)}'
        except UnicodeEncodeError:
            told = f'"name_raw":"{binascii.b2a_base64(os.fsencode(name), newline=False).decode()}"'
        if size:
            payload = binascii.b2a_base64(checksum.to_bytes(8, "big"), newline=False).decode()
            told += f',"size":{size},"payload":"{payload}"'
        else:
            told += ',"payload":null'
        self._add(f'{{"type":{FILE},{told},"position":{self._position}}}\n')

    def close(self) -> None:
        """Write what is left. The sink stays open, and has to be until then."""
        with self._gzip:
            self._flush()

    def _add(self, line: str) -> None:
        self._position += 1
        self._lines.append(line)
        if len(self._lines) >= 512:
            self._flush()

    def _flush(self) -> None:
        self._gzip.write("".join(self._lines).encode())
        self._lines.clear()


def _short(path: str) -> str | bytes:
    """A path, or its digest where many of its length would fill the memory."""
    return path if len(path) < linux.PATH_MAX else hashlib.sha256(os.fsencode(path)).digest()


def assemble(tar_split: Path, directory: Path) -> Iterator[bytes]:
    """The layer's tar again, in pieces: what tar_split recorded, with contents out of directory.

    Raises CorruptStore where a file is missing, shorter than recorded or changed.
    """
    with _explaining(tar_split):
        root = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for entry in _entries(tar_split):
                if entry["type"] == SEGMENT:
                    yield binascii.a2b_base64(entry["payload"])
                elif entry.get("size"):
                    yield from _content(root, entry)
        finally:
            os.close(root)


def size(tar_split: Path) -> int:
    """The length in bytes of the tar that assemble() would give."""
    with _explaining(tar_split):
        total = 0
        for entry in _entries(tar_split):
            total += len(binascii.a2b_base64(entry["payload"])) if entry["type"] == SEGMENT else entry.get("size", 0)
    return total


def _entries(tar_split: Path) -> Iterator[dict[str, Any]]:
    with open_regular(tar_split) as packed, igzip.open(packed, "rb") as lines:
        for line in lines:
            entry: dict[str, Any] = json.loads(line)
            if entry["type"] not in (FILE, SEGMENT):
                raise ValueError(f"unknown type {entry['type']}")
            yield entry


@contextlib.contextmanager
def _explaining(tar_split: Path) -> Iterator[None]:
    """Raise CorruptStore for what cannot be read in the block."""
    try:
        yield
    except _UNREADABLE as error:
        raise CorruptStore(
            f"the layer's tar-split.json.gz cannot be read: {tar_split}: {error}",
            hint=f"remove the image and import or build it again; {REMEDY}",
            path=tar_split,
        ) from error


def _content(root: int, entry: dict[str, Any]) -> Iterator[bytes]:
    name = os.fsdecode(binascii.a2b_base64(entry["name_raw"])) if "name_raw" in entry else entry["name"]
    checksum, left = 0, int(entry["size"])
    try:
        # The layer's links lead inside the layer, as they did when it was extracted, never into the host.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        fd = linux.open_inside(root, os.path.normpath("/" + name), flags)
        with open(fd, "rb", buffering=0) as file:
            while left and (chunk := file.read(min(left, _CHUNK))):
                checksum = crc64.go_iso(chunk, checksum)
                left -= len(chunk)
                yield chunk
    except OSError as error:
        raise CorruptStore(f'the layer\'s file "{name}" cannot be read: {error.strerror}') from error
    if left or checksum.to_bytes(8, "big") != binascii.a2b_base64(entry["payload"]):
        raise CorruptStore(
            f'the layer\'s file "{name}" is not what was stored',
            hint="something wrote into a read-only layer; remove the image and import or build it again",
        )
