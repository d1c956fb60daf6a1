"""Streams that may be compressed: found out by their first bytes, as Docker does.

Names and extensions are not asked; a layer blob has neither.
"""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from typing import BinaryIO, Protocol, cast

import zstandard
from isal import igzip, igzip_lib

from pylab_container.errors import InvalidArchive

_MAGIC = {b"\x1f\x8b": "gzip", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2"}
_BUFFER = 1 << 20
_DAMAGE: tuple[type[Exception], ...] = (
    OSError,
    EOFError,
    zlib.error,
    cast(type[Exception], igzip_lib.error),  # its stub says that this is an instance
    lzma.LZMAError,
    zstandard.ZstdError,
)


def kind(start: bytes) -> str:
    """The compression that a stream beginning with these bytes has; "" for none. Six bytes suffice."""
    return next((name for magic, name in _MAGIC.items() if start.startswith(magic)), "")


def decompressed(stream: BinaryIO) -> BinaryIO:
    """The stream's content, whatever it is compressed with.

    Reading from the result raises InvalidArchive where the compressed data is damaged
    or cut off. The stream itself stays open.
    """
    buffered = io.BufferedReader(_Unowned(stream), _BUFFER)
    found = kind(buffered.peek(6)[:6])
    if found == "gzip":
        return cast(BinaryIO, _Checked(igzip.IGzipFile(fileobj=buffered, mode="rb"), found))
    if found == "xz":
        return cast(BinaryIO, _Checked(lzma.LZMAFile(buffered), found))
    if found == "bzip2":
        return cast(BinaryIO, _Checked(bz2.BZ2File(buffered), found))
    if found == "zstd":
        reader = zstandard.ZstdDecompressor().stream_reader(buffered, read_across_frames=True)
        return cast(BinaryIO, _Checked(reader, found))
    return cast(BinaryIO, buffered)


class _Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


class _Unowned(io.RawIOBase):
    """A readable view of a stream that belongs to somebody else and must not be closed with us."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _Checked(io.RawIOBase):
    """A decompressor whose many error classes are one."""

    def __init__(self, reader: _Readable, name: str) -> None:
        self._reader = reader
        self._name = name

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        try:
            return self._reader.read(size) or b""
        except _DAMAGE as error:
            raise InvalidArchive(
                f"the {self._name} stream is damaged or cut off: {error}", hint="fetch or make the file again"
            ) from error
