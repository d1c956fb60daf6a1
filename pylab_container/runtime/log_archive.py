"""Move the output of a run that has ended from conmon's file to the JSON log (log_files.py).

conmon cannot write dockerd's format, and translating while the container runs would take one more process per
container. So the engine translates once, when it records the end of a run. dockerd opens this data root only after
that: it cannot use it while containers of this engine run.
"""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import json
import os
from pathlib import Path
from typing import BinaryIO, Self

from pylab_container.errors import CorruptStore
from pylab_container.runtime.log_files import (
    LARGEST_ENTRY,
    STREAMS,
    LogPart,
    LogSource,
    last_entries,
    offset_after,
    open_for_writing,
    open_json_log,
    open_regular,
    parse_cri_entry,
)
from pylab_container.runtime.logdriver import LogLimit
from pylab_container.runtime.monitor import Stream


def archive_log(path: Path, json_log: Path, *, limit: LogLimit | None = None) -> None:
    """Move the entries of conmon's file to the JSON log. A crash at any point neither loses nor repeats an entry.

    Entries that cannot be parsed stay in conmon's file. The same holds for everything that a full or damaged disk does
    not accept: read_log() finds it there, and the end of the next run tries again. Never raises, because the end of a
    container must be recorded in any case. Neither file is fsynced; conmon and dockerd do not do that either.

    The caller holds the container's lock.
    """
    with contextlib.suppress(OSError, CorruptStore), open_regular(path) as file:
        # A reader that opens both files under this lock sees the log as it was before or after (open_snapshot()).
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            # What an earlier call that was killed may have left; the offset below is computed from whole entries.
            _cut_torn_entry(json_log)
            unreadable = _append(LogSource(file, parse_cri_entry), json_log, limit)
            _remove_archived(path, file, unreadable)
        except OSError:
            # A full disk takes half of an entry; dockerd would append its next entry to that half.
            _cut_torn_entry(json_log)


def _append(source: LogSource, json_log: Path, limit: LogLimit | None) -> list[tuple[int, int]]:
    """Append the entries that the JSON log lacks. Return (begin, end) of each range that could not be parsed."""
    unreadable, position = list[tuple[int, int]](), 0
    with _JsonLog(json_log, limit) as target:
        begin = offset_after(target.last, source)
        for part in source.parts():
            if part.offset > position:
                unreadable.append((position, part.offset))
            position = part.end
            target.write(part, is_new=part.offset >= begin)
        target.finish()
    if position < (end := os.fstat(source.file.fileno()).st_size):
        unreadable.append((position, end))
    return unreadable


class _JsonLog:
    """A JSON log, opened for appending."""

    def __init__(self, path: Path, limit: LogLimit | None) -> None:
        self._path = path
        self._limit = limit
        self._file = open_for_writing(path, "ab")
        with contextlib.ExitStack() as stack:
            self.last = last_entries(open_json_log(path, stack))
        self._decoders = {name: codecs.getincrementaldecoder("utf-8")("surrogateescape") for name in STREAMS}
        self._times: dict[Stream, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, part: LogPart, *, is_new: bool) -> None:
        """Append an entry if it is new. A part that is not new is decoded, too: it may end within a character."""
        # conmon's buffer of 8 KiB may cut a character in two. JSON holds whole characters, so the first half is kept in
        # the decoder and written with the second one.
        text = self._decoders[part.stream].decode(part.data, final=part.ends_line)
        self._times[part.stream] = part.time
        if is_new:
            self._write(text, part.stream, part.time)

    def finish(self) -> None:
        """Write the incomplete character with which a stream ended, if any, and flush."""
        for name, time in self._times.items():
            self._write(self._decoders[name].decode(b"", final=True), name, time)
        # On a full disk this fails, before _remove_archived() removes the entries from conmon's file.
        self._file.flush()

    def _write(self, text: str, stream: str, time: str) -> None:
        if not text:
            return
        stamp = time.removesuffix("Z").rstrip("0").removesuffix(".") + "Z"  # Go's RFC3339Nano
        # json escapes everything but ASCII, so a lone surrogate becomes \udcxx. UTF-8 could not encode it.
        entry = json.dumps({"log": text, "stream": stream, "time": stamp}).encode() + b"\n"
        if self._limit and 0 < self._file.tell() > self._limit.size - len(entry):
            self._rotate(self._limit.files)
        self._file.write(entry)

    def _rotate(self, files: int) -> None:
        """Rename the log to <log>.1, <log>.1 to <log>.2 and so on, and begin a new one, as dockerd does."""
        self._file.close()
        # Oldest first, so that each rename but the first goes to a name that is free. The first overwrites the oldest.
        for number in range(files - 1, 0, -1):
            for suffix in ("", ".gz"):
                younger = self._path if number == 1 else Path(f"{self._path}.{number - 1}{suffix}")
                with contextlib.suppress(FileNotFoundError):
                    younger.rename(f"{self._path}.{number}{suffix if number > 1 else ''}")
        self._file = open_for_writing(self._path, "wb")


def _cut_torn_entry(json_log: Path) -> None:
    """Truncate a JSON log behind its last whole entry: a crash or a full disk leaves half of one."""
    with contextlib.suppress(FileNotFoundError), open_for_writing(json_log, "r+b") as file:
        end = file.seek(0, os.SEEK_END)
        begin = max(0, end - LARGEST_ENTRY)
        file.seek(begin)
        tail = file.read()
        whole = tail.rfind(b"\n") + 1
        if whole < len(tail) and (whole or not begin):
            file.truncate(begin + whole)


def _remove_archived(path: Path, file: BinaryIO, unreadable: list[tuple[int, int]]) -> None:
    """Remove conmon's file, or reduce it to the ranges that could not be parsed."""
    if not unreadable:
        path.unlink()
        return
    # A file that cannot be parsed at all stays as it is, however often this runs.
    if unreadable == [(0, os.fstat(file.fileno()).st_size)]:
        return
    temporary = path.with_name(f".tmp-{path.name}")
    with temporary.open("wb") as rest:
        for begin, end in unreadable:
            while begin < end:
                begin += os.sendfile(rest.fileno(), file.fileno(), begin, end - begin)
        # conmon appends to this file in the next run. Its first entry must not be joined to a torn one.
        if not _ends_line(file, unreadable[-1][1]):
            os.write(rest.fileno(), b"\n")
    temporary.rename(path)


def _ends_line(file: BinaryIO, end: int) -> bool:
    return os.pread(file.fileno(), 1, end - 1) == b"\n"
