"""The files of a container's log and their entries: conmon's k8s-file and dockerd's json-file.

    container.log       the output of the current run, as conmon writes it (format "k8s-file", the CRI logging format):

        2026-11-24T08:29:28.845919897+00:00 stdout F a whole line
        2026-11-24T08:29:28.845919897+00:00 stderr P the first part of a long one …

    <id>-json.log       the output of earlier runs, as dockerd writes it (log driver "json-file"):

        {"log":"a whole line\\n","stream":"stdout","time":"2026-11-24T08:29:28.845919897Z"}
        {"log":"the first part of a long one …","stream":"stderr","time":"2026-11-24T08:29:28.845919897Z"}

An entry is a whole line or the end of one if it has the tag F (full) in the first format, or a newline in "log" in the
second. Otherwise the line continues in a later entry. Bytes that are not UTF-8 are stored in JSON as lone surrogates
(PEP 383). This engine restores the bytes; dockerd reads U+FFFD, which it would have written itself.

Sources: conmon's src/ctr_logging.c; moby's daemon/logger/jsonfilelog; Kubernetes' CRI logging design.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from pylab_container.errors import CorruptStore
from pylab_container.host.lines import whole_lines
from pylab_container.runtime.monitor import Stream

STREAMS: tuple[Stream, ...] = ("stdout", "stderr")

# conmon's entries hold at most 8 KiB of output and dockerd's 16 KiB. A longer entry is damaged, and reading it into
# memory could exhaust the memory.
LARGEST_ENTRY = 1 << 20  # bytes
_TIME = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|\+00:00)")

# The path of a log may have any kind of file. O_RDONLY on a FIFO blocks until a writer opens it (fifo(7)), and a
# symlink may point to any file of the host.
_SAFE_OPEN = os.O_NONBLOCK | os.O_NOFOLLOW


class LogPart(NamedTuple):
    """One entry of a log file: a line of output or a part of a line.

    time         RFC 3339 in UTC, with nine digits of fraction
    data         the output, with the newline if the entry ends a line
    offset, end  the range of the entry's bytes in the file
    """

    time: str
    stream: Stream
    data: bytes
    offset: int
    end: int

    @property
    def ends_line(self) -> bool:
        return self.data.endswith(b"\n")


EntryParser = Callable[[bytes], "tuple[str, Stream, bytes]"]
"""Parses one entry, newline included, into time, stream and output. Raises ValueError for a damaged entry."""


class LogSource:
    """One file of a log. It is read from the file's current position on.

    end    offset at which the log ends in this file, in bytes; None for a file that may grow
    begin  offset of the first entry to return; earlier entries are in another file of the log as well
    """

    def __init__(self, file: BinaryIO, parse: EntryParser, *, end: int | None = None) -> None:
        self.file = file
        self._parse = parse
        self._end = end
        self.begin = 0

    def times_backwards(self) -> Iterator[str]:
        """The times of the last entries, newest first. Empty for a compressed file."""
        if self._end is None:
            return
        # Any range of twice the largest size contains a whole entry. The first line is skipped: it may begin before the
        # range.
        begin = max(0, self._end - 2 * LARGEST_ENTRY)
        lines = os.pread(self.file.fileno(), self._end - begin, begin).split(b"\n")
        for line in reversed(lines[1:] if begin else lines):
            with contextlib.suppress(ValueError):
                yield self._parse(line)[0]

    def parts(self, damaged: Callable[[], object] = lambda: None) -> Iterator[LogPart]:
        """Yield the entries that are complete now. damaged is called for each entry that cannot be parsed.

        Afterwards the file's position is after the last complete entry: the writer may be about to complete the next.
        """
        offset = self.file.tell()
        for entry, length in whole_lines(self.file, LARGEST_ENTRY):
            try:
                part = LogPart(*self._parse(entry), offset, offset + length)
            except ValueError:
                damaged()
            else:
                if offset >= self.begin:
                    yield part
            offset += length
            if self._end is not None and offset >= self._end:
                return
        if self._end is not None and offset < self._end:
            # A torn entry: no process appends to this file while it is read, so the entry stays incomplete.
            damaged()


def parse_cri_entry(entry: bytes) -> tuple[str, Stream, bytes]:
    """Parse an entry of conmon's k8s-file. Raises ValueError."""
    time, stream, tag, data = entry.split(b" ", 3)
    if not data.endswith(b"\n"):
        raise ValueError("too long")
    # The CRI format allows several tags, separated by colons; conmon writes one.
    if stream not in (b"stdout", b"stderr") or tag[:1] not in (b"F", b"P"):
        raise ValueError(entry)
    end = b"\n" if tag.startswith(b"F") else b""
    return _utc(time), "stderr" if stream == b"stderr" else "stdout", data.removesuffix(b"\n") + end


def parse_json_entry(entry: bytes) -> tuple[str, Stream, bytes]:
    """Parse an entry of dockerd's json-file. Raises ValueError."""
    try:
        document = json.loads(entry)
    except RecursionError as error:
        # Raised by json for brackets that are nested a thousand deep.
        raise ValueError("too many brackets") from error
    if not (isinstance(document, dict) and isinstance(document.get("log"), str)):
        raise ValueError(entry)
    stream, time = document.get("stream") or "stdout", document.get("time")
    if stream not in ("stdout", "stderr") or not isinstance(time, str):
        raise ValueError(entry)
    return (
        _utc(time.encode()),
        "stderr" if stream == "stderr" else "stdout",
        document["log"].encode(errors="surrogateescape"),
    )


def _utc(time: bytes) -> str:
    """Normalize a time to nine digits of fraction and Z, so that times compare as text. Raises ValueError."""
    if not _TIME.fullmatch(time):
        raise ValueError(time)
    seconds, _, fraction = time.decode().removesuffix("+00:00").removesuffix("Z").partition(".")
    return f"{seconds}.{fraction:0<9}Z"


# The boundary between the two files


def last_entries(sources: list[LogSource]) -> tuple[str, int]:
    """The time of a JSON log's last entry, and the number of entries at its end with this time.

    The time is "" for an empty log.
    """
    times = (time for source in reversed(sources) for time in source.times_backwards())
    newest = next(times, "")
    return newest, 1 + sum(1 for _ in itertools.takewhile(newest.__eq__, times))


def offset_after(last: tuple[str, int], source: LogSource) -> int:
    """The offset in conmon's file of the first entry that the JSON log lacks.

    last    the result of last_entries() for the JSON log
    source  conmon's file

    A process that was killed in archive_log() may have copied entries without removing them from conmon's file.
    """
    # A time does not identify an entry: conmon gives all lines of one read(2) the same time (write_k8s_log() in
    # src/ctr_logging.c). So this skips as many entries with the newest time as the JSON log has.
    newest, count = last
    begin = 0
    for part in source.parts() if newest else ():
        count -= part.time == newest
        if part.time > newest or count == 0:
            begin = part.end if count == 0 else 0
            break
    # The caller reads the file from its beginning, because it reports damaged entries.
    source.file.seek(0)
    return begin


# Opening


def open_snapshot(
    path: Path, earlier: Path | None, stack: contextlib.ExitStack, current: contextlib.ExitStack
) -> tuple[list[LogSource], BinaryIO | None]:
    """Open the JSON log's files and conmon's file in a consistent state: no entry is missed or read twice.

    path     conmon's file
    earlier  the JSON log
    stack    keeps the JSON log's files open
    current  keeps conmon's file open
    """
    # archive_log() moves entries from one file to the other under an exclusive lock of conmon's file, which a shared
    # lock excludes. But the file may have been replaced before the lock was granted (by conmon when the log is full, or
    # by archive_log()). A lock on the old file excludes no process, so the loop opens the new file.
    while True:
        file = reopen_log(path, current)
        if file:
            fcntl.flock(file, fcntl.LOCK_SH)
        sources = open_json_log(earlier, stack) if earlier else []
        is_current = is_file_at(path, file)
        if file:
            fcntl.flock(file, fcntl.LOCK_UN)
        if is_current:
            return sources, file


def open_json_log(log: Path, stack: contextlib.ExitStack) -> list[LogSource]:
    """Open a JSON log and its rotated files, oldest first. dockerd compresses rotated files if compress=true."""
    stack.close()
    sources = []
    for path in [*reversed(_rotated(log)), log]:
        # Race: dockerd and archive_log() rename these files, so the listing may be stale.
        with contextlib.suppress(FileNotFoundError):
            file = stack.enter_context(open_regular(path))
            end = os.fstat(file.fileno()).st_size
            if path.suffix == ".gz":
                import gzip  # late: few containers have compressed logs

                # The end is unknown: the file's size is the compressed one.
                sources.append(
                    LogSource(cast(BinaryIO, stack.enter_context(gzip.GzipFile(fileobj=file))), parse_json_entry)
                )
            elif end:
                sources.append(LogSource(file, parse_json_entry, end=end))
    return sources


def _rotated(log: Path) -> list[Path]:
    """The rotated files of a JSON log, newest first: <log>.1, <log>.2.gz, …"""
    numbers = {path: path.name.removeprefix(f"{log.name}.").removesuffix(".gz") for path in log.parent.iterdir()}
    paths = [path for path, number in numbers.items() if number.isascii() and number.isdigit()]
    return sorted(paths, key=lambda path: int(numbers[path]))


def reopen_log(path: Path, stack: contextlib.ExitStack) -> BinaryIO | None:
    """Open the file that is at path now, None if it does not exist. Close the file that stack held before."""
    stack.close()
    try:
        return stack.enter_context(open_regular(path))
    except FileNotFoundError:
        return None


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading. Raises FileNotFoundError, and CorruptStore for any other kind of file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | _SAFE_OPEN)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _not_a_file(path) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise _not_a_file(path)
    return open(fd, "rb")


def open_for_writing(path: Path, mode: str) -> BinaryIO:
    """Open a file for writing. Raises OSError for a symlink, and for a FIFO, which cannot be positioned."""
    # 0640 is the mode of dockerd's log files.
    return cast(BinaryIO, open(path, mode, opener=lambda path, flags: os.open(path, flags | _SAFE_OPEN, 0o640)))


def _not_a_file(path: Path) -> CorruptStore:
    return CorruptStore(f"{path} is damaged: it is not a file", hint="move it away", path=path)


def is_file_at(path: Path, file: BinaryIO | None) -> bool:
    """Whether path names this open file; with None, whether path names no file."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return file is None
    return file is not None and os.path.samestat(status, os.fstat(file.fileno()))
