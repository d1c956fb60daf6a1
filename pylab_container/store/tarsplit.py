"""Rebuild a layer's tar byte for byte from the extracted files.

A layer's diff id is the digest of its tar, but the tar is not kept: the content of its files is in the layer's
directory already. The rest is recorded: headers and the padding between contents, as gzipped JSON lines. The format is
that of the tar-split project, which Docker and containers/storage use:

    {"type":2,"payload":"<base64>","position":0}                      a segment: bytes of the tar
    {"type":1,"name":"etc/hosts","size":9,"payload":"<crc>",…}        the content of a file

A file's payload is the CRC-64 of its content (ISO polynomial, as Go's hash/crc64 computes it), eight bytes big-endian.
It detects a file that was changed in the layer's directory.

Sparse files are an exception. In the tar their content is a list of pieces, and the file on disk does not show where
the archiver saw holes. The pieces are therefore recorded as segments, and the file as one without content. That takes
some space twice, and the tar is always exact. (Docker records the file with its holes filled, and cannot rebuild such a
layer.)

Source: github.com/vbatts/tar-split, tar/asm and tar/storage.
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

FILE, SEGMENT = 1, 2  # "type" of a line

_PIECE_SIZE = 1 << 17  # bytes; the daemon holds one piece in memory for each client that has stopped reading
_LINES_PER_WRITE = 512  # lines that are compressed at a time: one by one would cost a call each

_ISAL_ERROR = cast(type[Exception], igzip_lib.IsalError)  # its type stub declares an instance
_UNREADABLE = (OSError, EOFError, ValueError, KeyError, TypeError, _ISAL_ERROR)

_quoted = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps() would build an encoder for every line


class TarSplitWriter:
    """Records a tar in one pass. The caller closes the writer, then the sink."""

    def __init__(self, sink: BinaryIO) -> None:
        # No file name and no time in the gzip header, so that equal layers have equal records.
        self._gzip = igzip.IGzipFile(filename="", mode="wb", fileobj=sink, compresslevel=1, mtime=0)
        self._lines: list[str] = []
        self._position = 0
        self._seen: set[str | bytes] = set()

    def segment(self, data: bytes) -> None:
        """Record bytes of the tar that are not the content of a file."""
        payload = binascii.b2a_base64(data, newline=False).decode()
        self._add(f'{{"type":{SEGMENT},"payload":"{payload}","position":{self._position}}}\n')

    def file(self, name: str, size: int, checksum: int) -> None:
        """Record a member: its name in the tar, its size in bytes, and the CRC-64 of its content.

        Raises InvalidArchive for a name that was recorded before: one file on disk cannot hold two contents. dockerd
        refuses such layers, too ("duplicates of file paths not supported").
        """
        path = _key(os.path.normpath("/" + name))
        if path in self._seen:
            raise InvalidArchive(
                f'the archive has the member "{name}" twice', hint="make it again without appending to an old archive"
            )
        self._seen.add(path)
        try:
            name.encode()
            fields = f'"name":{_quoted(name)}'
        except UnicodeEncodeError:  # a name that is not UTF-8, which JSON cannot hold
            fields = f'"name_raw":"{binascii.b2a_base64(os.fsencode(name), newline=False).decode()}"'
        if size:
            payload = binascii.b2a_base64(checksum.to_bytes(8, "big"), newline=False).decode()
            fields += f',"size":{size},"payload":"{payload}"'
        else:
            fields += ',"payload":null'
        self._add(f'{{"type":{FILE},{fields},"position":{self._position}}}\n')

    def close(self) -> None:
        """Write the remaining lines and the gzip trailer. The sink stays open."""
        with self._gzip:
            self._flush()

    def _add(self, line: str) -> None:
        self._position += 1
        self._lines.append(line)
        if len(self._lines) >= _LINES_PER_WRITE:
            self._flush()

    def _flush(self) -> None:
        self._gzip.write("".join(self._lines).encode())
        self._lines.clear()


def _key(path: str) -> str | bytes:
    """Return a path, or the digest of a long one: a hostile tar may have thousands of them."""
    return path if len(path) < linux.PATH_MAX else hashlib.sha256(os.fsencode(path)).digest()


def assemble(tar_split: Path, directory: Path) -> Iterator[bytes]:
    """Yield the layer's tar in pieces, from the record tar_split and the files in directory.

    Raises CorruptStore if a file is missing, shorter than recorded or changed. Changes are found at the end of a file,
    when its bytes have been yielded already: the caller must discard what it has received.
    """
    with _explaining(tar_split):
        # One descriptor for all files: an unmount or a rename in between cannot change what they are read from.
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
    """Return the bytes that assemble() yields, without reading files. Raises CorruptStore."""
    with _explaining(tar_split):
        total = 0
        for entry in _entries(tar_split):
            total += len(binascii.a2b_base64(entry["payload"])) if entry["type"] == SEGMENT else entry.get("size", 0)
    return total


def _entries(tar_split: Path) -> Iterator[dict[str, Any]]:
    with open_regular(tar_split) as packed, igzip.open(packed, "rb") as lines:
        for line in lines:
            entry: dict[str, Any] = json.loads(line)
            # tar-split has no other types; to skip an unknown one would produce a tar with a wrong digest.
            if entry["type"] not in (FILE, SEGMENT):
                raise ValueError(f"unknown type {entry['type']}")
            yield entry


@contextlib.contextmanager
def _explaining(tar_split: Path) -> Iterator[None]:
    """Turn errors of reading or parsing in the block into CorruptStore, which names the record."""
    try:
        yield
    except _UNREADABLE as error:
        raise CorruptStore(
            f"the layer's tar-split.json.gz cannot be read: {tar_split}: {error}",
            hint=f"remove the image and import or build it again; {REMEDY}",
            path=tar_split,
        ) from error


def _content(root: int, entry: dict[str, Any]) -> Iterator[bytes]:
    """Yield a recorded file's content in pieces; check its length and CRC-64 at the end."""
    name = os.fsdecode(binascii.a2b_base64(entry["name_raw"])) if "name_raw" in entry else entry["name"]
    checksum, left = 0, int(entry["size"])
    try:
        # With the layer as root, because an absolute link in the layer would otherwise lead to a file of the host.
        # O_NONBLOCK: a FIFO in the file's place must not block the reader (open(2)).
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        fd = linux.open_inside(root, os.path.normpath("/" + name), flags)
        with open(fd, "rb", buffering=0) as file:  # a buffer smaller than a piece would only add a copy
            while left and (chunk := file.read(min(left, _PIECE_SIZE))):
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
