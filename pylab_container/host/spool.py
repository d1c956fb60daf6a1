"""Bytes that wait on disk, so that who makes them need not wait for who wants them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Iterator
from typing import BinaryIO

_PIECE = 1 << 20


def ahead(pieces: Generator[bytes, None, None], opened: Callable[[], BinaryIO]) -> Iterator[bytes]:
    """The bytes of all pieces, which are made in a thread of their own as fast as the disk takes them.

    opened  makes the file where they wait, when the first one is wanted; it is closed in the end

    What making them raises is raised behind the last byte before it. Who closes the iterator ends the making, too.
    """
    spool = _Spool(pieces, opened())
    try:
        yield from spool.read()
    finally:
        spool.close()


class _Spool:
    def __init__(self, pieces: Generator[bytes, None, None], file: BinaryIO) -> None:
        self._pieces = pieces
        self._file = file
        self._size = 0
        self._ended = False
        self._unwanted = False
        self._error: BaseException | None = None
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._fill, name="spool")
        self._thread.start()

    def _fill(self) -> None:
        try:
            for piece in self._pieces:
                self._file.write(piece)
                self._file.flush()
                with self._news:
                    self._size += len(piece)
                    self._news.notify()
                if self._unwanted:
                    break
            self._pieces.close()
        except BaseException as error:  # noqa: BLE001 - read() raises it
            self._error = error
        with self._news:
            self._ended = True
            self._news.notify()

    def read(self) -> Iterator[bytes]:
        position = 0
        while (size := self._more_than(position)) > position:
            data = os.pread(self._file.fileno(), min(size - position, _PIECE), position)
            position += len(data)
            yield data
        if self._error is not None:
            raise self._error

    def _more_than(self, position: int) -> int:
        """How many bytes there are, as soon as there are more, or no more will come."""
        with self._news:
            while self._size == position and not self._ended:
                self._news.wait()
            return self._size

    def close(self) -> None:
        self._unwanted = True
        self._thread.join()
        self._file.close()
