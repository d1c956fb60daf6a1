"""Move the output of a run from conmon's file to the JSON log after the exit (log_files.py).

conmon cannot write dockerd's format, and translating while the container runs would require another process per
container. So the engine translates the log once, when it records the exit. That is early enough for dockerd, which
cannot use the data root while containers of this engine run.
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

    Entries that cannot be parsed stay in conmon's file. So do entries that a full or damaged disk does not accept:
    read_log() reads them there, and the next exit tries again. This never raises, because the exit of a container must
    be recorded in any case. Neither file is flushed with fsync(2); conmon and dockerd do not do that either.

    The caller holds the container's lock.
    """
    with contextlib.suppress(OSError, CorruptStore), open_regular(path) as file:
        # A reader that opens both files under this lock sees the log as it was before or after (open_snapshot()).
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            # A call that was killed may have left a torn entry; the offset below is computed from whole entries.
            _cut_torn_entry(json_log)
            unreadable = _append(LogSource(file, parse_cri_entry), json_log, limit)
            _remove_archived(path, file, unreadable)
        except OSError:
            # On a full disk an entry may be torn, and dockerd would append its next entry to the torn one.
            _cut_torn_entry(json_log)


def _append(source: LogSource, json_log: Path, limit: LogLimit | None) -> list[tuple[int, int]]:
    """Append the entries that the JSON log lacks. Return the ranges (begin, end) that could not be parsed."""
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
        """Append an entry if it is new. Decode it in any case: it may end within a character."""
        # conmon's buffer of 8 KiB may split a character between two entries. JSON holds whole characters, so the
        # decoder keeps the first half, which is written with the second one.
        text = self._decoders[part.stream].decode(part.data, final=part.ends_line)
        self._times[part.stream] = part.time
        if is_new:
            self._write(text, part.stream, part.time)

    def finish(self) -> None:
        """Write the incomplete character with which a stream ended, if any, and flush."""
        for name, time in self._times.items():
            self._write(self._decoders[name].decode(b"", final=True), name, time)
        # Flushed before _remove_archived() removes the entries from conmon's file, because it fails on a full disk.
        self._file.flush()

    def _write(self, text: str, stream: str, time: str) -> None:
        if not text:
            return
        stamp = time.removesuffix("Z").rstrip("0").removesuffix(".") + "Z"  # Go's RFC3339Nano
        # json escapes all characters that are not ASCII. A lone surrogate becomes \udcxx; UTF-8 cannot encode it.
        entry = json.dumps({"log": text, "stream": stream, "time": stamp}).encode() + b"\n"
        if self._limit and 0 < self._file.tell() > self._limit.size - len(entry):
            self._rotate(self._limit.files)
        self._file.write(entry)

    def _rotate(self, files: int) -> None:
        """Rename the log to <log>.1, <log>.1 to <log>.2 and so on, and begin a new one, as dockerd does."""
        self._file.close()
        # Oldest first: the first rename overwrites the oldest file, and each later one has an unused target.
        for number in range(files - 1, 0, -1):
            for suffix in ("", ".gz"):
                younger = self._path if number == 1 else Path(f"{self._path}.{number - 1}{suffix}")
                with contextlib.suppress(FileNotFoundError):
                    younger.rename(f"{self._path}.{number}{suffix if number > 1 else ''}")
        self._file = open_for_writing(self._path, "wb")


def _cut_torn_entry(json_log: Path) -> None:
    """Truncate a JSON log after its last whole entry. A crash or a full disk leaves a torn one."""
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
    # Idempotent: a file of which no entry can be parsed is not rewritten.
    if unreadable == [(0, os.fstat(file.fileno()).st_size)]:
        return
    temporary = path.with_name(f".tmp-{path.name}")
    with temporary.open("wb") as rest:
        for begin, end in unreadable:
            while begin < end:
                begin += os.sendfile(rest.fileno(), file.fileno(), begin, end - begin)
        # conmon appends to this file in the next run; a newline separates its first entry from a torn one.
        if not _ends_line(file, unreadable[-1][1]):
            os.write(rest.fileno(), b"\n")
    temporary.rename(path)


def _ends_line(file: BinaryIO, end: int) -> bool:
    return os.pread(file.fileno(), 1, end - 1) == b"\n"
