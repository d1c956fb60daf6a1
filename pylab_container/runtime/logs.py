"""Read a container's log: the JSON log of the earlier runs, then conmon's file of the current run (log_files.py).

When a log reaches its maximum size, conmon renames a new, empty file over the old one. A follower therefore reads the
file that it has open to its end before it opens the new one.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct
from msgspec.structs import replace

from pylab_container.runtime.log_files import (
    LogPart,
    LogSource,
    is_file_at,
    last_entries,
    offset_after,
    open_snapshot,
    parse_cri_entry,
    reopen_log,
)
from pylab_container.runtime.monitor import Stream
from pylab_container.text.timestamps import parse_rfc3339

_LARGEST_PIECE = 1 << 20  # bytes; a longer line is yielded in pieces


class LogLine(Struct, frozen=True):
    """One line that a container printed, or a piece of a line of more than a mebibyte.

    time        when the first part of the line was read, RFC 3339 with nanoseconds, UTC:
                "2026-11-24T08:29:28.845919897Z"
    data        the bytes, with the newline; an unfinished line and every piece except the last have no newline
    continued   whether the beginning of the line was in an earlier piece
    """

    time: str
    stream: Stream
    data: bytes
    continued: bool = False


def read_log(
    path: Path,
    *,
    earlier: Path | None = None,
    follow: Callable[[], bool] | None = None,
    tail: int | None = None,
    since: float | None = None,
    until: float | None = None,
    damaged: Callable[[int], object] = lambda count: None,
) -> Iterator[LogLine]:
    """Yield the lines of a log, oldest first, in constant memory. A log that does not exist is empty.

    path          conmon's file
    earlier       the JSON log of the earlier runs
    follow        called at the end of the log: waits a moment and returns whether more output may follow, for
                  example Monitor.runs_after(0.05). None stops at the end
    tail          of the lines that exist now, yield only this number of last lines
    since, until  seconds since 1970: skip lines that are older or newer
    damaged       called at the end with the number of entries that could not be parsed, if any
    """
    with contextlib.closing(LogReader(path, earlier=earlier, tail=tail, since=since, until=until)) as reader:
        yield from reader.new()
        while follow is not None and not reader.ended:
            more = follow()
            # Read once more even after the exit: the last lines may have been written while follow() waited.
            yield from reader.new()
            if not more:
                break
        yield from reader.rest()
        if reader.damaged:
            damaged(reader.damaged)


class LogReader:
    """Reads a log step by step, for callers with an event loop. Parameters as of read_log(); the caller closes it."""

    def __init__(
        self,
        path: Path,
        *,
        earlier: Path | None = None,
        tail: int | None = None,
        since: float | None = None,
        until: float | None = None,
    ) -> None:
        self._path = path
        self._earlier = earlier
        self._tail = tail
        self._since, self._until = since, until
        self._json_files, self._current = contextlib.ExitStack(), contextlib.ExitStack()
        self._file: BinaryIO | None = None
        self._begun = False
        self._unfinished: dict[str, _Unfinished] = {}
        self.ended = False
        """Whether a line was newer than until."""
        self.damaged = 0
        """Number of entries that could not be parsed so far."""

    def new(self) -> Iterator[LogLine]:
        """The lines that were completed since the last call, and pieces of very long ones."""
        parts = self._appended() if self._begun else self._present()
        self._begun = True
        yield from self._within_times(_join(parts, self._unfinished))

    def rest(self) -> Iterator[LogLine]:
        """The lines that have no newline yet."""
        # Cleared first: a second call must not yield them again.
        unfinished, self._unfinished = self._unfinished, {}
        rests = ((line, b"".join(pieces)) for line, pieces, _ in unfinished.values())
        yield from self._within_times(replace(line, data=data) for line, data in rests if data)

    def _within_times(self, lines: Iterable[LogLine]) -> Iterator[LogLine]:
        for line in lines:
            # Only since and until need the time as a number.
            if self._since is not None or self._until is not None:
                try:
                    moment = _seconds(line.time)
                except ValueError:
                    # The time has the right form and is not a date, such as month 13.
                    self._count_damaged()
                    continue
                if self.ended or (self._until is not None and moment > self._until):
                    self.ended = True
                    return
                if self._since is not None and moment < self._since:
                    continue
            yield line

    def _present(self) -> Iterator[LogPart]:
        """The entries in the files at the first call."""
        json_sources, self._file = open_snapshot(self._path, self._earlier, self._json_files, self._current)
        sources = [*json_sources, *([LogSource(self._file, parse_cri_entry)] if self._file else [])]
        if self._file and json_sources:
            # A process that was killed in archive_log() leaves entries in both files.
            sources[-1].begin = offset_after(last_entries(json_sources), sources[-1])
        yield from _present(sources, self._tail, self._count_damaged)

    def _appended(self) -> Iterator[LogPart]:
        """The entries that were appended since the last call."""
        if self._file is not None:
            yield from LogSource(self._file, parse_cri_entry).parts(self._count_damaged)
        if self._file is None or _is_replaced(self._file, self._path):
            # Race: conmon may have appended to the old file between the read above and its rename. It writes only to
            # the new file after the rename, so the old file is now complete.
            if self._file is not None:
                yield from LogSource(self._file, parse_cri_entry).parts(self._count_damaged)
            self._file = reopen_log(self._path, self._current)
            if self._file is not None:
                yield from LogSource(self._file, parse_cri_entry).parts(self._count_damaged)

    def _count_damaged(self) -> None:
        self.damaged += 1

    def close(self) -> None:
        """Close the files."""
        self._json_files.close()
        self._current.close()
        self._file = None


def _is_replaced(file: BinaryIO, path: Path) -> bool:
    return path.exists() and not is_file_at(path, file)


_LineStart = tuple[int, int]
"""The start of a line: the index of its source, and the offset in that source."""


def _present(sources: list[LogSource], tail: int | None, damaged: Callable[[], object]) -> Iterator[LogPart]:
    """Yield the entries that are in the files now; with tail, only those of this number of last lines."""
    selected = None if tail is None else _last_lines(sources, tail)
    if selected is not None:
        first, offset = min(selected, default=(len(sources), 0))
        for index, source in enumerate(sources[first:], first):
            source.file.seek(offset if index == first else 0)
    # A line may continue in the next file, and the entries of the two streams may be interleaved.
    begun: dict[str, _LineStart] = {}
    for index, source in enumerate(sources):
        for part in source.parts(damaged):
            start = begun.pop(part.stream, (index, part.offset))
            if selected is None or start in selected:
                yield part
            if not part.ends_line:
                begun[part.stream] = start


def _last_lines(sources: list[LogSource], tail: int) -> set[_LineStart]:
    """The starts of the last lines. Lines are ordered by their ends; unfinished lines come last."""
    # maxlen bounds the memory by tail instead of by the log's size; the price is that the log is read twice. Reading
    # backwards is not possible: any number of entries of the other stream may be between the start of a line and its
    # end.
    ended: deque[_LineStart] = deque(maxlen=tail)
    begun: dict[str, _LineStart] = {}
    for index, source in enumerate(sources):
        for part in source.parts():
            start = begun.pop(part.stream, (index, part.offset))
            if part.ends_line:
                ended.append(start)
            else:
                begun[part.stream] = start
    ended.extend(begun.values())
    return set(ended)


_Unfinished = tuple[LogLine, list[bytes], int]
"""A line whose end has not been read: the line without its data, the pieces of data so far, and their size in bytes."""


def _join(parts: Iterator[LogPart], unfinished: dict[str, _Unfinished]) -> Iterator[LogLine]:
    """Join the parts of each stream to lines.

    unfinished  {stream: the beginning of a line}; kept by the caller from one call to the next
    """
    for part in parts:
        line, pieces, size = unfinished.pop(part.stream, (LogLine(part.time, part.stream, b""), [], 0))
        pieces.append(part.data)
        size += len(part.data)
        if part.ends_line:
            yield replace(line, data=b"".join(pieces))
        elif size >= _LARGEST_PIECE:
            # Without a limit, `yes | tr -d '\n'` in a container would exhaust the reader's memory.
            unfinished[part.stream] = (replace(line, continued=True), [], 0)
            yield replace(line, data=b"".join(pieces))
        else:
            unfinished[part.stream] = (line, pieces, size)


def _seconds(time: str) -> float:
    # The same conversion as for --since and --until. A bound that was copied from a line must include that line, so
    # both must be rounded to a float in the same way.
    return parse_rfc3339(time) / 10**9
