"""Streams that may be compressed: found out by their first bytes, as Docker does.

Names and extensions are not asked; a layer blob has neither.
"""

from __future__ import annotations

import bz2
import contextlib
import io
import lzma
import os
import queue
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol, cast

import zstandard
from isal import igzip, igzip_lib, isal_zlib

from pylab_container.errors import InvalidArchive, InvalidInput

_MAGIC = {b"\x1f\x8b": "gzip", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2"}
_BUFFER = 1 << 20
_AHEAD = 4
_GZIP_LEVEL = 2  # isal's levels are 0 to 3; the next one costs twice the time for a few per cent
_PIECE = 4096
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
    or cut off. The caller closes the result, as a context manager or with close(); the stream itself stays open.
    """
    buffer = io.BufferedReader(_Unowned(stream), _BUFFER)
    found = kind(buffer.peek(6)[:6])
    buffered = cast(BinaryIO, buffer)
    if found == "gzip":
        return cast(BinaryIO, _Checked(igzip.IGzipFile(fileobj=buffered, mode="rb"), buffered, found))
    if found == "xz":
        return cast(BinaryIO, _Checked(lzma.LZMAFile(buffered), buffered, found))
    if found == "bzip2":
        return cast(BinaryIO, _Checked(bz2.BZ2File(buffered), buffered, found))
    if found == "zstd":
        return cast(BinaryIO, _Checked(_ZstdFrames(buffered), buffered, found))
    return buffered


def compressed(chunks: Iterable[bytes], name: str) -> Iterator[bytes]:
    """The chunks as a "gzip" or "zstd" stream, in pieces. Equal content gives equal bytes: no name, no time."""
    makers: dict[str, Callable[[], _Compressor]] = {
        "gzip": lambda: isal_zlib.compressobj(_GZIP_LEVEL, wbits=31),
        "zstd": lambda: zstandard.ZstdCompressor().compressobj(),
    }
    if name not in makers:
        raise InvalidInput(f'unknown compression "{name}"', hint="use gzip or zstd")
    compressor = makers[name]()
    for chunk in chunks:
        if piece := compressor.compress(chunk):
            yield piece
    yield compressor.flush()


class Limit:
    """How many bytes several streams may unpack to, all together: a small archive may hold a large disk's worth.

    most       bytes; None: what the disk with the directory has free, but for a twentieth
    directory  where the bytes go
    """

    def __init__(self, most: int | None, directory: Path) -> None:
        disk = os.statvfs(directory)
        self._told = most is not None
        self._left = self._most = disk.f_bavail * disk.f_frsize * 19 // 20 if most is None else most

    def stream(self, stream: BinaryIO) -> BinaryIO:
        """A stream that owns this one, and whose reads count. They raise InvalidArchive when it becomes too much."""
        return cast(BinaryIO, _Counted(stream, self._count))

    def _count(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            reason = "as allowed" if self._told else "which is what the disk has to spare"
            raise InvalidArchive(
                f"the archive unpacks to more than {self._most} bytes, {reason}",
                hint="make space, or allow more with max_size if you trust this file",
            )


class ReadAhead(io.RawIOBase):
    """A stream that a thread reads some pieces ahead: what unpacks it works beside what uses it.

    Use as a context manager. An error of the stream is raised by the read that comes to it. The thread closes the
    stream at its end, which may be after the block: nothing else may close it while the thread reads.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._pieces: queue.Queue[bytes | BaseException] = queue.Queue(_AHEAD)
        self._closing = threading.Event()
        self._rest = b""
        self._ended = False
        self._thread = threading.Thread(target=self._fill, name="read-ahead", daemon=True)

    def __enter__(self) -> ReadAhead:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()  # and do not wait: the thread itself may wait for bytes that nobody wants any more

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if not self._rest and not self._ended:
            piece = self._pieces.get()
            if isinstance(piece, BaseException):
                self._ended = True
                raise piece
            self._rest, self._ended = piece, not piece
        data, self._rest = (self._rest, b"") if size < 0 else (self._rest[:size], self._rest[size:])
        return data

    def _fill(self) -> None:
        piece: bytes | BaseException = b"."
        while piece and not isinstance(piece, BaseException) and not self._closing.is_set():
            try:
                piece = self._stream.read(_BUFFER)
            except BaseException as error:  # noqa: BLE001 (read() raises it)
                piece = error
            self._put(piece)
        self._stream.close()

    def _put(self, piece: bytes | BaseException) -> None:
        while not self._closing.is_set():
            with contextlib.suppress(queue.Full):
                self._pieces.put(piece, timeout=0.1)
                return


class _Counted(io.RawIOBase):
    def __init__(self, stream: BinaryIO, count: Callable[[int], None]) -> None:
        self._stream = stream
        self._count = count

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._count(len(data))
        return data

    def close(self) -> None:
        self._stream.close()
        super().close()


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


class _Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...

    def close(self) -> None: ...


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


class _ZstdFrames:
    """Zstandard frames, one after the other. zstandard's own reader takes one that is cut off for complete."""

    def __init__(self, stream: _Readable) -> None:
        self._stream = stream
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._unread = b""

    def read(self, size: int = -1, /) -> bytes:
        """Some bytes, b"" at the end. size is not asked: what one small piece of input unpacks to comes at once."""
        # Small, because a hostile piece unpacks to 30 000 times its size.
        while piece := self._unread or self._stream.read(_PIECE):
            if self._frame.eof:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
            data = self._frame.decompress(piece)
            self._unread = self._frame.unused_data
            if data:
                return data
        if not self._frame.eof:
            raise EOFError("the last frame is not complete")
        return b""

    def close(self) -> None:
        """There is nothing to close but the stream, which belongs to the caller."""


class _Checked(io.RawIOBase):
    """A decompressor whose many error classes are one. It owns the buffer that the decompressor reads from."""

    def __init__(self, reader: _Readable, buffer: BinaryIO, name: str) -> None:
        self._reader = reader
        self._buffer = buffer
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

    def close(self) -> None:
        if not self.closed:
            self._reader.close()
            self._buffer.close()
        super().close()
