"""Adapters between streams and iterators of bytes."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from typing import BinaryIO

_READ_SIZE = 1 << 20  # bytes


class HashedStream(io.RawIOBase):
    """A stream that computes the SHA-256 digest of its content while it is read.

    The inner stream stays open.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._hash.update(data)
        return data

    def digest(self) -> str:
        """Return "sha256:…" of the whole stream, of which the rest is read now."""
        # A decompressor stops at the end of its data; the digest of a blob covers what follows, too.
        while self.read(_READ_SIZE):
            pass
        return f"sha256:{self._hash.hexdigest()}"


class PieceStream(io.RawIOBase):
    """Pieces of bytes as a readable stream. A read returns at most one piece."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = piece
        end = len(self._rest) if size < 0 else size
        data, self._rest = self._rest[:end], self._rest[end:]
        return data
