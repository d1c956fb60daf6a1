"""Read and write compressed streams.

The compression is detected from the first bytes, as in Docker.

File names are ignored: a layer blob has none. Source: moby pkg/archive, DetectCompression; RFC 1952, RFC 8878.
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
_READ_SIZE = 1 << 20  # bytes that are read at a time
_READ_AHEAD = 4  # reads that the thread of ReadAhead may be ahead of its consumer
_QUEUE_POLL_INTERVAL = 0.1  # seconds between checks whether the consumer of ReadAhead has left
_GZIP_LEVEL = 2  # of isal's 0 to 3; level 3 takes twice the time for a few per cent
_ZSTD_INPUT_SIZE = 4096  # bytes; a hostile frame unpacks to 30,000 times its size, and each result is held in memory
_DECOMPRESSION_ERRORS: tuple[type[Exception], ...] = (
    OSError,
    EOFError,
    zlib.error,
    cast(type[Exception], igzip_lib.error),  # its type stub declares an instance
    lzma.LZMAError,
    zstandard.ZstdError,
)


def kind(start: bytes) -> str:
    """Return the compression of a stream that starts with these bytes; "" for none.

    Six bytes are enough.
    """
    return next((name for magic, name in _MAGIC.items() if start.startswith(magic)), "")


def decompressed(stream: BinaryIO) -> BinaryIO:
    """Return a stream of the decompressed content, for any supported compression or none.

    Reading raises InvalidArchive if the compressed data is damaged or cut off. The caller closes the result, as a
    context manager or with close(); the inner stream stays open.
    """
    buffer = io.BufferedReader(_Unowned(stream), _READ_SIZE)
    name = kind(buffer.peek(6)[:6])
    buffered = cast(BinaryIO, buffer)
    if name == "gzip":
        return cast(BinaryIO, _Checked(igzip.IGzipFile(fileobj=buffered, mode="rb"), buffered, name))
    if name == "xz":
        return cast(BinaryIO, _Checked(lzma.LZMAFile(buffered), buffered, name))
    if name == "bzip2":
        return cast(BinaryIO, _Checked(bz2.BZ2File(buffered), buffered, name))
    if name == "zstd":
        return cast(BinaryIO, _Checked(_ZstdFrames(buffered), buffered, name))
    return buffered


def compressed(chunks: Iterable[bytes], name: str) -> Iterator[bytes]:
    """Yield the chunks as a "gzip" or "zstd" stream.

    Equal content gives equal bytes: the header has no name or time.

    Raises InvalidInput for another compression.
    """
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
    """A limit on the total size of several decompressed streams, against decompression bombs.

    most       bytes; default: 95 % of the free space of the file system that holds directory
    directory  where the content is written to
    """

    def __init__(self, most: int | None, directory: Path) -> None:
        disk = os.statvfs(directory)
        self._is_given = most is not None
        self._left = self._most = disk.f_bavail * disk.f_frsize * 19 // 20 if most is None else most

    def stream(self, stream: BinaryIO) -> BinaryIO:
        """Return a stream that owns this one.

        Its reads raise InvalidArchive once the limit is exceeded.
        """
        return cast(BinaryIO, _Counted(stream, self._count))

    def _count(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            reason = "as allowed" if self._is_given else "which is what the disk has to spare"
            raise InvalidArchive(
                f"the archive unpacks to more than {self._most} bytes, {reason}",
                hint="free space, or allow more with max_size if you trust this file",
            )


class ReadAhead(io.RawIOBase):
    """A stream that a thread reads ahead, so that decompressing and extracting run in parallel.

    Use as a context manager. An error of the inner stream is raised by the read that reaches it. The thread closes the
    inner stream, possibly after the block has ended: the caller must not.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._pieces: queue.Queue[bytes | BaseException] = queue.Queue(_READ_AHEAD)
        self._closing = threading.Event()
        self._rest = b""
        self._ended = False
        self._thread = threading.Thread(target=self._fill, name="read-ahead", daemon=True)

    def __enter__(self) -> ReadAhead:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # Without join(): the thread may be blocked in a read from a slow registry.
        self._closing.set()

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
                piece = self._stream.read(_READ_SIZE)
            except BaseException as error:  # noqa: BLE001 (read() raises it)
                piece = error
            self._put(piece)
        self._stream.close()

    def _put(self, piece: bytes | BaseException) -> None:
        while not self._closing.is_set():
            with contextlib.suppress(queue.Full):
                self._pieces.put(piece, timeout=_QUEUE_POLL_INTERVAL)
                return


class _Counted(io.RawIOBase):
    """A stream that reports the size of each read. It owns the inner stream."""

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
    """A readable view of a stream that stays open when the view is closed."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _ZstdFrames:
    """A reader of consecutive zstd frames.

    The library's own reader treats a frame that is cut off as complete.
    """

    def __init__(self, stream: _Readable) -> None:
        self._stream = stream
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._unread = b""

    def read(self, size: int = -1, /) -> bytes:
        """Return the content of one piece of input, b"" at the end. size is ignored."""
        while piece := self._unread or self._stream.read(_ZSTD_INPUT_SIZE):
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
        """Do nothing: the inner stream belongs to the caller."""


class _Checked(io.RawIOBase):
    """A decompressor that raises InvalidArchive for the errors of every library.

    It owns the decompressor's buffer.
    """

    def __init__(self, reader: _Readable, buffer: BinaryIO, name: str) -> None:
        self._reader = reader
        self._buffer = buffer
        self._name = name

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        try:
            return self._reader.read(size) or b""
        except _DECOMPRESSION_ERRORS as error:
            raise InvalidArchive(
                f"the {self._name} stream is damaged or cut off: {error}", hint="fetch or make the file again"
            ) from error

    def close(self) -> None:
        if not self.closed:
            self._reader.close()
            self._buffer.close()
        super().close()
