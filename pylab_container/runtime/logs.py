"""A container's log, as conmon writes it (format "k8s-file", the CRI logging format).

One line per line of output, or part of one:

    2026-11-24T08:29:28.845919897+00:00 stdout F a whole line
    2026-11-24T08:29:28.845919897+00:00 stderr P the first part of a long one …

The tag F (full) ends a line of output, P (partial) does not. A log with a largest size is begun anew when
it is full: conmon renames a new file over the old one, and what was in that is gone. Who follows
the log holds the old file open, reads it to its end, and goes on with the new one.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal

from msgspec import Struct
from msgspec.structs import replace

from pylab_container.formats.timestamps import parse_rfc3339


class LogLine(Struct, frozen=True):
    """One line that a container printed.

    time    when its first part was read, RFC 3339 with nanoseconds, UTC: "2026-11-24T08:29:28.845919897Z"
    data    the bytes, with the newline; without it where the output ended in the middle of a line
    """

    time: str
    stream: Literal["stdout", "stderr"]
    data: bytes


def read_log(
    path: Path,
    *,
    follow: Callable[[], bool] | None = None,
    tail: int | None = None,
    since: float | None = None,
    until: float | None = None,
) -> Iterator[LogLine]:
    """The lines of a log, oldest first. A log that does not exist is empty.

    follow        called whenever everything was read: it waits a little and says whether more may
                  come (Monitor.runs_after(0.05) is made for it). None: stop at the end
    tail          only the last so many lines of what is there now
    since, until  seconds since 1970: only the lines not older, not newer
    """
    with contextlib.closing(LogReader(path, tail=tail, since=since, until=until)) as reader:
        yield from reader.new()
        while follow is not None and not reader.ended:
            more = follow()
            # Read once more even after the end: the last lines came while follow() waited.
            yield from reader.new()
            if not more:
                break
        yield from reader.rest()


class LogReader:
    """Reads a log, look by look, for callers that wait in their own way for what comes; see read_log(). Close it."""

    def __init__(
        self, path: Path, *, tail: int | None = None, since: float | None = None, until: float | None = None
    ) -> None:
        self._path = path
        self._tail = tail
        self._since, self._until = since, until
        self._scope = contextlib.ExitStack()
        self._file: BinaryIO | None = None
        self._unfinished: dict[str, LogLine] = {}
        self.ended = False
        """Whether there was a line that is newer than until."""

    def new(self) -> Iterator[LogLine]:
        """Lines that ended since the last look."""
        entries = self._entries()
        if self._tail is not None:
            # Whole lines are counted, so what is there is joined first; an unfinished one comes last.
            unfinished: dict[str, LogLine] = {}
            lines = deque(_join(entries, unfinished), maxlen=self._tail)
            lines.extend(unfinished.values())
            entries, self._tail = iter(lines), None
        yield from self._chosen(_join(entries, self._unfinished))

    def rest(self) -> Iterator[LogLine]:
        """The ends of streams that are in the middle of a line."""
        unfinished, self._unfinished = self._unfinished, {}
        yield from self._chosen(unfinished.values())

    def _chosen(self, lines: Iterable[LogLine]) -> Iterator[LogLine]:
        for line in lines:
            if self.ended or (self._until is not None and _seconds(line.time) > self._until):
                self.ended = True
                return
            if self._since is None or _seconds(line.time) >= self._since:
                yield line

    def _entries(self) -> Iterator[LogLine]:
        if self._file is not None:
            yield from _entries(self._file)
        if self._file is None or _replaced(self._file, self._path):
            if self._file is not None:
                yield from _entries(self._file)  # what came between the two looks
            self._file = _open(self._path, self._scope)
            if self._file is not None:
                yield from _entries(self._file)

    def close(self) -> None:
        """Give the file back."""
        self._scope.close()
        self._file = None


def _open(path: Path, stack: contextlib.ExitStack) -> BinaryIO | None:
    """The log as it is now, None while there is none; the one before is closed."""
    stack.close()
    try:
        return stack.enter_context(path.open("rb"))
    except FileNotFoundError:
        return None


def _replaced(file: BinaryIO, path: Path) -> bool:
    try:
        now = path.stat()
    except FileNotFoundError:
        return False
    before = os.fstat(file.fileno())
    return (now.st_dev, now.st_ino) != (before.st_dev, before.st_ino)


def _entries(file: BinaryIO) -> Iterator[LogLine]:
    """What can be read now, part by part. Half of an entry is left for the next time."""
    while entry := file.readline():
        if not entry.endswith(b"\n"):
            file.seek(-len(entry), 1)
            return
        time, stream, tag, data = entry.split(b" ", 3)
        end = b"\n" if tag.startswith(b"F") else b""
        yield LogLine(
            _utc(time.decode()), "stderr" if stream == b"stderr" else "stdout", data.removesuffix(b"\n") + end
        )


def _join(parts: Iterable[LogLine], unfinished: dict[str, LogLine]) -> Iterator[LogLine]:
    """Parts → lines. The streams are joined each for itself: their parts may alternate.

    unfinished  beginnings of lines by their streams: from the last call, and for the next one
    """
    for part in parts:
        first = unfinished.pop(part.stream, None)
        line = part if first is None else replace(first, data=first.data + part.data)
        if line.data.endswith(b"\n"):
            yield line
        else:
            unfinished[part.stream] = line


def _utc(time: str) -> str:
    return time.removesuffix("+00:00").removesuffix("Z") + "Z"


def _seconds(time: str) -> float:
    # As who asks computes it: a line's own time must be neither older nor newer than itself.
    return parse_rfc3339(time) / 10**9
