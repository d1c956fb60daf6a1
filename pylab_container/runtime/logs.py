"""A container's log: two files, in the formats of conmon and of dockerd.

    container.log       what the present run prints, as conmon writes it (format "k8s-file", the CRI logging format):

        2026-11-24T08:29:28.845919897+00:00 stdout F a whole line
        2026-11-24T08:29:28.845919897+00:00 stderr P the first part of a long one …

    <id>-json.log       what earlier runs printed, as dockerd writes it (log driver "json-file"):

        {"log":"a whole line\\n","stream":"stdout","time":"2026-11-24T08:29:28.845919897Z"}
        {"log":"the first part of a long one …","stream":"stderr","time":"2026-11-24T08:29:28.845919897Z"}

conmon writes no other format, and a process that translates while the container runs would be one more for each
container. So the engine translates once, when it notes the end of a run: keep() moves container.log to the JSON log.
dockerd can open the data root only after that: it cannot use it while containers of this engine run.

A line of output ends with the tag F (full), or with a newline in "log"; without, it is a part of one. Bytes that are
not UTF-8 are lone surrogates in JSON (PEP 383): this engine reads the bytes, dockerd the replacement character that
it would have written. A log with a largest size is begun again when it is full: conmon renames a new file over the
old one. A follower of the log holds the old file open, reads it to its end, and goes on with the new one.
"""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import itertools
import json
import os
import re
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, Self, cast

from msgspec import Struct
from msgspec.structs import replace

from pylab_container.errors import CorruptStore
from pylab_container.host.lines import whole_lines
from pylab_container.runtime.logdriver import LogLimit
from pylab_container.text.timestamps import parse_rfc3339

Stream = Literal["stdout", "stderr"]
_STREAMS: tuple[Stream, ...] = ("stdout", "stderr")

_LARGEST_ENTRY = 1 << 20  # bytes; conmon's parts have 8 KiB of output, dockerd's 16 KiB
_LARGEST_PIECE = 1 << 20  # bytes of a line that are joined before they are handed on
_TIME = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|\+00:00)")


class LogLine(Struct, frozen=True):
    """One line that a container printed, or a piece of a line of more than a megabyte.

    time        when the first part of the line was read, RFC 3339 with nanoseconds, UTC:
                "2026-11-24T08:29:28.845919897Z"
    data        the bytes, with the newline; a piece that is not the last one, and an unfinished line, have none
    continued   the beginning of the line came before
    """

    time: str
    stream: Stream
    data: bytes
    continued: bool = False


class _Part(NamedTuple):
    """One entry of a log file. offset, end: where it is in the file."""

    time: str
    stream: Stream
    data: bytes
    offset: int
    end: int

    @property
    def ends_line(self) -> bool:
        return self.data.endswith(b"\n")


_Parser = Callable[[bytes], "tuple[str, Stream, bytes]"]
"""Reads one entry, with its newline. Raises ValueError for a damaged one."""


def _ignore() -> None:
    """The default for damaged: nothing is counted."""


# ---- reading ---------------------------------------------------------------------------------


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
    """The lines of a log, oldest first. A log that does not exist is empty. Memory does not grow with the log.

    path          conmon's file
    earlier       the JSON log with what came before
    follow        called whenever everything was read: it waits a little and says whether more may
                  come (Monitor.runs_after(0.05) is made for it). None: stop at the end
    tail          only this number of lines from the end of what is there now
    since, until  seconds since 1970: only the lines not older, not newer
    damaged       called at the end with the number of entries that could not be read and were left out, if any
    """
    with contextlib.closing(LogReader(path, earlier=earlier, tail=tail, since=since, until=until)) as reader:
        yield from reader.new()
        while follow is not None and not reader.ended:
            more = follow()
            # Read once more even after the end: the last lines came while follow() waited.
            yield from reader.new()
            if not more:
                break
        yield from reader.rest()
        if reader.damaged:
            damaged(reader.damaged)


class LogReader:
    """Reads a log, look by look, for callers that wait in their own way for what comes; see read_log(). Close it."""

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
        self._kept, self._scope = contextlib.ExitStack(), contextlib.ExitStack()
        self._file: BinaryIO | None = None
        self._begun = False
        self._unfinished: dict[str, _Unfinished] = {}
        self.ended = False
        """Whether there was a line that is newer than until."""
        self.damaged = 0
        """How many entries could not be read so far."""

    def new(self) -> Iterator[LogLine]:
        """Lines that ended since the last look, and pieces of very long ones."""
        parts = self._more() if self._begun else self._present()
        self._begun = True
        yield from self._chosen(_join(parts, self._unfinished))

    def rest(self) -> Iterator[LogLine]:
        """The ends of streams that are in the middle of a line."""
        unfinished, self._unfinished = self._unfinished, {}
        rests = ((line, b"".join(pieces)) for line, pieces, _ in unfinished.values())
        yield from self._chosen(replace(line, data=data) for line, data in rests if data)

    def _chosen(self, lines: Iterable[LogLine]) -> Iterator[LogLine]:
        for line in lines:
            if self._since is not None or self._until is not None:
                try:
                    moment = _seconds(line.time)
                except ValueError:  # digits that are not a date: a month 13
                    self._count()
                    continue
                if self.ended or (self._until is not None and moment > self._until):
                    self.ended = True
                    return
                if self._since is not None and moment < self._since:
                    continue
            yield line

    def _present(self) -> Iterator[_Part]:
        """What is in the files at the first look."""
        kept, self._file = _open_all(self._path, self._earlier, self._kept, self._scope)
        sources = [*kept, *([_Source(self._file, _parse_cri)] if self._file else [])]
        if self._file and kept:
            sources[-1].begin = _offset_after(_last_entries(kept), sources[-1])
        yield from _present(sources, self._tail, self._count)

    def _more(self) -> Iterator[_Part]:
        """What has come since."""
        if self._file is not None:
            yield from _Source(self._file, _parse_cri).parts(self._count)
        if self._file is None or _replaced(self._file, self._path):
            if self._file is not None:
                yield from _Source(self._file, _parse_cri).parts(self._count)  # what came between the two looks
            self._file = _open(self._path, self._scope)
            if self._file is not None:
                yield from _Source(self._file, _parse_cri).parts(self._count)

    def _count(self) -> None:
        self.damaged += 1

    def close(self) -> None:
        """Give the files back."""
        self._kept.close()
        self._scope.close()
        self._file = None


_Unfinished = tuple[LogLine, list[bytes], int]
"""A line of which the end is missing: with the data still missing, the data so far, and how many bytes that is."""


class _Source:
    """One file of a log and how its entries are read, from where the file stands.

    end    bytes of it that belong to the log, None for all
    begin  where the entries begin that are in no other file
    """

    def __init__(self, file: BinaryIO, parse: _Parser, *, end: int | None = None) -> None:
        self.file = file
        self._parse = parse
        self._end = end
        self.begin = 0

    def times_backwards(self) -> Iterator[str]:
        """The times of the last entries, the newest first; of a compressed file none."""
        if self._end is None:
            return
        begin = max(0, self._end - 2 * _LARGEST_ENTRY)
        lines = os.pread(self.file.fileno(), self._end - begin, begin).split(b"\n")
        for line in reversed(lines[1:] if begin else lines):
            with contextlib.suppress(ValueError):
                yield self._parse(line)[0]

    def parts(self, damaged: Callable[[], object] = _ignore) -> Iterator[_Part]:
        """What can be read now. The file then stands behind the last whole entry: half of one may become whole."""
        offset = self.file.tell()
        for entry, length in whole_lines(self.file, _LARGEST_ENTRY):
            try:
                part = _Part(*self._parse(entry), offset, offset + length)
            except ValueError:
                damaged()
            else:
                if offset >= self.begin:
                    yield part
            offset += length
            if self._end is not None and offset >= self._end:
                return
        if self._end is not None and offset < self._end:
            damaged()  # half of an entry, and nothing writes to this file now


def _present(sources: list[_Source], tail: int | None, damaged: Callable[[], object]) -> Iterator[_Part]:
    """The parts that are in the files now; with tail, those of this number of lines."""
    kept = None if tail is None else _last_lines(sources, tail)
    if kept is not None:
        first, offset = min(kept, default=(len(sources), 0))
        for number, source in enumerate(sources[first:], first):
            source.file.seek(offset if number == first else 0)
    begun: dict[str, _Start] = {}
    for number, source in enumerate(sources):
        for part in source.parts(damaged):
            start = begun.pop(part.stream, (number, part.offset))
            if kept is None or start in kept:
                yield part
            if not part.ends_line:
                begun[part.stream] = start


_Start = tuple[int, int]
"""Where a line begins: the number of the file, and the offset in it."""


def _last_lines(sources: list[_Source], tail: int) -> set[_Start]:
    """The beginnings of the last lines, in the order in which lines end; unfinished ones come last."""
    ended: deque[_Start] = deque(maxlen=tail)
    begun: dict[str, _Start] = {}
    for number, source in enumerate(sources):
        for part in source.parts():
            start = begun.pop(part.stream, (number, part.offset))
            if part.ends_line:
                ended.append(start)
            else:
                begun[part.stream] = start
    ended.extend(begun.values())
    return set(ended)


def _open_all(
    path: Path, earlier: Path | None, stack: contextlib.ExitStack, current: contextlib.ExitStack
) -> tuple[list[_Source], BinaryIO | None]:
    """The files of the log at one moment: keep() moves entries from one to the other, and holds a lock for that."""
    while True:
        file = _open(path, current)
        if file:
            fcntl.flock(file, fcntl.LOCK_SH)
        kept = _open_kept(earlier, stack) if earlier else []
        same = _is_at(path, file)
        if file:
            fcntl.flock(file, fcntl.LOCK_UN)
        if same:
            return kept, file


def _open_kept(log: Path, stack: contextlib.ExitStack) -> list[_Source]:
    """The JSON log and its rotated files, the oldest first; the compressed ones are dockerd's (compress=true)."""
    stack.close()
    sources = []
    for path in [*reversed(_rotated(log)), log]:
        with contextlib.suppress(FileNotFoundError):
            file = stack.enter_context(_regular(path))
            end = os.fstat(file.fileno()).st_size
            if path.suffix == ".gz":
                import gzip  # seldom needed

                sources.append(_Source(cast(BinaryIO, stack.enter_context(gzip.GzipFile(fileobj=file))), _parse_json))
            elif end:
                sources.append(_Source(file, _parse_json, end=end))
    return sources


def _rotated(log: Path) -> list[Path]:
    """The earlier files of a JSON log: <log>.1 is the newest."""
    numbered = {path: path.name.removeprefix(f"{log.name}.").removesuffix(".gz") for path in log.parent.iterdir()}
    found = [path for path, number in numbered.items() if number.isascii() and number.isdigit()]
    return sorted(found, key=lambda path: int(numbered[path]))


def _open(path: Path, stack: contextlib.ExitStack) -> BinaryIO | None:
    """The log as it is now, None while there is none; the one before is closed."""
    stack.close()
    try:
        return stack.enter_context(_regular(path))
    except FileNotFoundError:
        return None


_PLAIN = os.O_NONBLOCK | os.O_NOFOLLOW
"""Opening a FIFO would wait, and a link may lead anywhere."""


def _regular(path: Path) -> BinaryIO:
    """Open a file to read it. Raises FileNotFoundError; CorruptStore for what is not a file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | _PLAIN)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _not_a_file(path) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise _not_a_file(path)
    return open(fd, "rb")


def _to_write(path: Path, mode: str) -> BinaryIO:
    """Open a file to write it. Raises OSError for a link; a FIFO is opened, and cannot be positioned."""
    return cast(BinaryIO, open(path, mode, opener=lambda path, flags: os.open(path, flags | _PLAIN, 0o640)))


def _not_a_file(path: Path) -> CorruptStore:
    return CorruptStore(f"{path} is damaged: it is not a file", hint="move it away", path=path)


def _is_at(path: Path, file: BinaryIO | None) -> bool:
    """Whether file is what path names; None: whether path names nothing."""
    try:
        now = path.stat()
    except FileNotFoundError:
        return file is None
    return file is not None and os.path.samestat(now, os.fstat(file.fileno()))


def _replaced(file: BinaryIO, path: Path) -> bool:
    return path.exists() and not _is_at(path, file)


def _parse_cri(entry: bytes) -> tuple[str, Stream, bytes]:
    time, stream, tag, data = entry.split(b" ", 3)
    if not data.endswith(b"\n"):
        raise ValueError("too long")
    if stream not in (b"stdout", b"stderr") or tag[:1] not in (b"F", b"P"):
        raise ValueError(entry)
    end = b"\n" if tag.startswith(b"F") else b""
    return _utc(time), "stderr" if stream == b"stderr" else "stdout", data.removesuffix(b"\n") + end


def _parse_json(entry: bytes) -> tuple[str, Stream, bytes]:
    try:
        document = json.loads(entry)
    except RecursionError as error:
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


def _join(parts: Iterator[_Part], unfinished: dict[str, _Unfinished]) -> Iterator[LogLine]:
    """Parts → lines. The streams are joined each for itself: their parts may alternate.

    unfinished  beginnings of lines by their streams: from the last call, and for the next one
    """
    for part in parts:
        line, pieces, size = unfinished.pop(part.stream, (LogLine(part.time, part.stream, b""), [], 0))
        pieces.append(part.data)
        size += len(part.data)
        if part.ends_line:
            yield replace(line, data=b"".join(pieces))
        elif size >= _LARGEST_PIECE:
            unfinished[part.stream] = (replace(line, continued=True), [], 0)
            yield replace(line, data=b"".join(pieces))
        else:
            unfinished[part.stream] = (line, pieces, size)


def _utc(time: bytes) -> str:
    """A time with nine digits of the fraction. Raises ValueError."""
    if not _TIME.fullmatch(time):
        raise ValueError(time)
    seconds, _, fraction = time.decode().removesuffix("+00:00").removesuffix("Z").partition(".")
    return f"{seconds}.{fraction:0<9}Z"


def _seconds(time: str) -> float:
    # As who asks computes it: a line's own time must be neither older nor newer than itself.
    return parse_rfc3339(time) / 10**9


# ---- from one run to the next ----------------------------------------------------------------


def keep(path: Path, log: Path, *, limit: LogLimit | None = None) -> None:
    """Move what a run has printed from conmon's file to the JSON log; a crash neither loses nor repeats an entry.

    Entries that cannot be read stay in conmon's file. So does everything that a full or damaged disk does not take:
    read_log() finds it there, and the end of the next run tries again. The caller holds the container's lock. Neither
    file is synced, as conmon's and dockerd's are not. Never fails: the end of a container is noted in any case.
    """
    with contextlib.suppress(OSError, CorruptStore), _regular(path) as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # a reader sees the log before this or after it
        try:
            _cut_torn_end(log)
            unreadable = _append(_Source(file, _parse_cri), log, limit)
            _leave(path, file, unreadable)
        except OSError:
            _cut_torn_end(log)


def _append(source: _Source, log: Path, limit: LogLimit | None) -> list[tuple[int, int]]:
    """Write the entries that the JSON log does not have yet; where the unreadable ones are: from, to."""
    unreadable, position = list[tuple[int, int]](), 0
    with _JsonLog(log, limit) as target:
        begin = _offset_after(target.last, source)
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
    """The JSON log, opened to append to it."""

    def __init__(self, log: Path, limit: LogLimit | None) -> None:
        self._log = log
        self._limit = limit
        self._file = _to_write(log, "ab")
        with contextlib.ExitStack() as stack:
            self.last = _last_entries(_open_kept(log, stack))
        self._decoders = {name: codecs.getincrementaldecoder("utf-8")("surrogateescape") for name in _STREAMS}
        self._times: dict[Stream, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, part: _Part, *, is_new: bool) -> None:
        """Write an entry. A character that is cut in two by conmon's buffer goes with its second half."""
        text = self._decoders[part.stream].decode(part.data, final=part.ends_line)
        self._times[part.stream] = part.time
        if is_new:
            self._write(text, part.stream, part.time)

    def finish(self) -> None:
        """Write the half of a character with which the output ended."""
        for name, time in self._times.items():
            self._write(self._decoders[name].decode(b"", final=True), name, time)
        self._file.flush()

    def _write(self, text: str, stream: str, time: str) -> None:
        if not text:
            return
        stamp = time.removesuffix("Z").rstrip("0").removesuffix(".") + "Z"  # Go's RFC3339Nano
        entry = json.dumps({"log": text, "stream": stream, "time": stamp}).encode() + b"\n"
        if self._limit and 0 < self._file.tell() > self._limit.size - len(entry):
            self._rotate(self._limit.files)
        self._file.write(entry)

    def _rotate(self, files: int) -> None:
        """Begin a new file, as dockerd does: <log>.1 is the newest of the old ones."""
        self._file.close()
        for number in range(files - 1, 0, -1):
            for suffix in ("", ".gz"):
                younger = self._log if number == 1 else Path(f"{self._log}.{number - 1}{suffix}")
                with contextlib.suppress(FileNotFoundError):
                    younger.rename(f"{self._log}.{number}{suffix if number > 1 else ''}")
        self._file = _to_write(self._log, "wb")


def _last_entries(kept: list[_Source]) -> tuple[str, int]:
    """The time of a JSON log's last entry, and how many of its last entries have this time; "" for an empty log."""
    times = (time for source in reversed(kept) for time in source.times_backwards())
    newest = next(times, "")
    return newest, 1 + sum(1 for _ in itertools.takewhile(newest.__eq__, times))


def _offset_after(last: tuple[str, int], source: _Source) -> int:
    """Where in conmon's file the entries begin that the JSON log does not have. last: as _last_entries() has it.

    A process that was killed in keep() has moved the first of them. conmon gives the lines that it reads at once the
    same time.
    """
    newest, count = last
    begin = 0
    for part in source.parts() if newest else ():
        count -= part.time == newest
        if part.time > newest or count == 0:
            begin = part.end if count == 0 else 0
            break
    source.file.seek(0)
    return begin


def _cut_torn_end(log: Path) -> None:
    """Take half of an entry away, at which a writer was killed or the disk was full. dockerd would append to it."""
    with contextlib.suppress(FileNotFoundError), _to_write(log, "r+b") as file:
        end = file.seek(0, os.SEEK_END)
        begin = max(0, end - _LARGEST_ENTRY)
        file.seek(begin)
        tail = file.read()
        whole = tail.rfind(b"\n") + 1
        if whole < len(tail) and (whole or not begin):
            file.truncate(begin + whole)


def _leave(path: Path, file: BinaryIO, unreadable: list[tuple[int, int]]) -> None:
    """Remove conmon's file, all but what could not be read."""
    if not unreadable:
        path.unlink()
        return
    if unreadable == [(0, os.fstat(file.fileno()).st_size)]:
        return
    temporary = path.with_name(f".tmp-{path.name}")
    with temporary.open("wb") as kept:
        for begin, end in unreadable:
            while begin < end:
                begin += os.sendfile(kept.fileno(), file.fileno(), begin, end - begin)
        if not _ends_line(file, unreadable[-1][1]):
            os.write(kept.fileno(), b"\n")
    temporary.rename(path)


def _ends_line(file: BinaryIO, end: int) -> bool:
    return os.pread(file.fileno(), 1, end - 1) == b"\n"
