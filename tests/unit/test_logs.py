"""The two files of a container's log: what is read from them, and how a run's output moves from one to the other."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from pylab_container.errors import CorruptStore
from pylab_container.runtime import logs
from pylab_container.runtime.log_archive import archive_log
from pylab_container.runtime.logdriver import LogLimit
from pylab_container.runtime.logs import read_log


def cri(second: int, data: bytes | str, stream: str = "stdout", tag: str = "F") -> bytes:
    """An entry as conmon writes it."""
    data = data.encode() if isinstance(data, str) else data
    return b"2026-11-24T08:00:%02d.500000000+00:00 %s %s %s\n" % (second, stream.encode(), tag.encode(), data)


def docker(second: int, text: str, stream: str = "stdout") -> bytes:
    """An entry as dockerd writes it."""
    return json.dumps({"log": text, "stream": stream, "time": f"2026-11-24T07:00:{second:02}.5Z"}).encode() + b"\n"


class Log:
    """The two files in a directory."""

    def __init__(self, directory: Path) -> None:
        self.run, self.kept = directory / "container.log", directory / "id-json.log"
        self.damaged = 0

    def read(self, *, tail: int | None = None, since: float | None = None) -> bytes:
        self.damaged = 0
        lines = read_log(self.run, earlier=self.kept, tail=tail, since=since, damaged=self._count)
        return b"".join(line.data for line in lines)

    def _count(self, count: int) -> None:
        self.damaged = count

    def keep(self, limit: LogLimit | None = None) -> None:
        archive_log(self.run, self.kept, limit=limit)

    def documents(self) -> list[str]:
        return [json.loads(line)["log"] for line in self.kept.read_bytes().splitlines()]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def test_dockerd_s_files_come_before_the_present_run_the_oldest_first(log: Log) -> None:
    Path(f"{log.kept}.10").write_bytes(docker(1, "a\n"))
    Path(f"{log.kept}.2.gz").write_bytes(gzip.compress(docker(2, "b\n")))
    Path(f"{log.kept}.1").write_bytes(docker(3, "c\n"))
    log.kept.write_bytes(docker(4, "d\n") + docker(5, "e"))
    log.run.write_bytes(cri(6, "f"))
    assert log.read() == b"a\nb\nc\nd\nef\n"
    assert [log.read(tail=count) for count in (0, 1, 3, 100)] == [b"", b"ef\n", b"c\nd\nef\n", b"a\nb\nc\nd\nef\n"]
    (first, *_) = read_log(log.run, earlier=log.kept)
    assert first.time == "2026-11-24T07:00:01.500000000Z"


def test_a_tail_counts_lines_in_the_order_of_their_ends_and_is_the_end_of_the_whole_log(log: Log) -> None:
    parts = [("1 ", "stdout", "P"), ("A ", "stderr", "P"), ("1", "stdout", "F"), ("2 ", "stdout", "P")]
    parts += [
        ("A", "stderr", "F"),
        ("B", "stderr", "F"),
        ("2", "stdout", "F"),
        ("C", "stderr", "P"),
        ("3", "stdout", "F"),
    ]
    log.run.write_bytes(b"".join(cri(second, *part) for second, part in enumerate(parts)))
    lines = [line.data for line in read_log(log.run)]
    assert lines == [b"1 1\n", b"A A\n", b"B\n", b"2 2\n", b"3\n", b"C"]
    for count in range(8):
        tail = [line.data for line in read_log(log.run, tail=count)]
        assert tail == (lines[-count:] if count else [])


DAMAGE = {
    "nothing": b"\n",
    "zeros": bytes(5000) + b"\n",
    "half": b"2026-11-24T08:00\n",
    "no stream": b"2026-11-24T08:00:01.5+00:00 stdin F x\n",
    "no tag": b"2026-11-24T08:00:01.5+00:00 stdout X x\n",
    "no time": b"yesterday stdout F x\n",
    "long": b"x" * (3 << 20) + b"\n",
    "a list": b"[1]\n",
    "a number": b'{"log":1,"stream":"stdout","time":"2026-11-24T08:00:01Z"}\n',
    "a stream": b'{"log":"x","stream":"other","time":"2026-11-24T08:00:01Z"}\n',
    "a surrogate": b'{"log":"\\ud800","stream":"stdout","time":"2026-11-24T08:00:01Z"}\n',
    "deep": b"[" * 100_000 + b"\n",
    "latin": b'{"log":"\xff"}\n',
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_line_is_left_out_and_counted(log: Log, damage: bytes) -> None:
    log.kept.write_bytes(docker(1, "a\n") + damage + docker(2, "b\n"))
    log.run.write_bytes(cri(3, "c") + damage + damage + cri(4, "d"))
    assert (log.read(), log.damaged) == (b"a\nb\nc\nd\n", 3)
    assert (log.read(tail=1), log.damaged) == (b"d\n", 0)


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_line_of_a_run_stays_where_it_is(log: Log, damage: bytes) -> None:
    log.run.write_bytes(damage + cri(1, "a") + damage + cri(2, "b") + b"2026-11")
    log.keep()
    assert log.documents() == ["a\n", "b\n"]
    assert log.run.read_bytes() == damage + damage + b"2026-11\n"
    assert (log.read(), log.damaged) == (b"a\nb\n", 3)
    log.keep()
    assert log.run.read_bytes() == damage + damage + b"2026-11\n"


@pytest.mark.parametrize("kind", ["fifo", "directory", "link"])
def test_what_is_not_a_file_is_reported_and_holds_nothing_up(log: Log, tmp_path: Path, kind: str) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    kinds: dict[str, Callable[[Path], object]] = {
        "fifo": os.mkfifo,
        "directory": os.mkdir,
        "link": lambda path: path.symlink_to(tmp_path / "secret"),
    }
    make = kinds[kind]
    for place, other in ((log.run, log.kept), (log.kept, log.run)):
        make(place)
        other.write_bytes(cri(1, "a"))
        with pytest.raises(CorruptStore, match=f"{place.name} is damaged"):
            log.read()
        log.keep()
        assert other.read_bytes() == cri(1, "a")
        assert (tmp_path / "secret").read_bytes() == b"secret"
        place.rename(tmp_path / f"old {place.name}")
        other.unlink()


def test_a_date_that_does_not_exist_is_damage_to_the_commands_that_need_it(log: Log) -> None:
    log.run.write_bytes(cri(1, "a").replace(b"-11-", b"-13-") + cri(2, "b"))
    assert (log.read(since=1.0), log.damaged) == (b"b\n", 1)


def test_every_byte_of_the_output_comes_back_and_dockerd_reads_text(log: Log) -> None:
    binary = bytes(range(256)).replace(b"\n", b"")
    log.run.write_bytes(
        cri(1, b"\xc3", tag="P")
        + cri(2, b"\xa9", tag="P")
        + cri(3, b"\xc3", "stderr", "P")
        + cri(4, "")
        + cri(5, binary)
    )
    before = log.read()
    log.keep()
    assert not log.run.exists()
    assert log.read() == before == "é\n".encode() + binary + b"\n\xc3"
    assert log.documents()[:2] == ["é", "\n"]
    assert log.kept.read_bytes().isascii()


def test_runs_follow_each_other_with_streams_and_times(log: Log) -> None:
    for second in (1, 2):
        log.run.write_bytes(cri(second, "out") + cri(second, "err", "stderr") + cri(second, "half", tag="P"))
        log.keep()
    assert log.documents() == ["out\n", "err\n", "half"] * 2
    lines = list(read_log(log.run, earlier=log.kept))
    assert [(line.stream, line.time[17:19]) for line in lines][:2] == [("stdout", "01"), ("stderr", "01")]


class Killed(BaseException):
    """The end of a process."""


def stops_at(number: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Let the process end at the n-th call that changes a file; how many calls there were."""
    calls = 0

    def counting(function: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            nonlocal calls
            calls += 1
            if calls == number:
                raise Killed
            return function(*arguments, **options)

        return call

    for owner, name in ((Path, "unlink"), (Path, "rename"), (json, "dumps"), (os, "sendfile")):
        monkeypatch.setattr(owner, name, counting(getattr(owner, name)))
    return lambda: calls


@pytest.mark.parametrize("limit", [None, LogLimit(300, 3)])
def test_a_process_killed_at_any_point_loses_and_repeats_nothing(
    log: Log, monkeypatch: pytest.MonkeyPatch, limit: LogLimit | None
) -> None:
    run = (
        cri(1, "a") + cri(1, "b") + cri(1, "c") + b"damage\n" + cri(2, "d") + cri(2, b"\xc3", tag="P") + cri(3, b"\xa9")
    )
    whole = "a\nb\nc\nd\né\n".encode()
    for number in range(1, 100):
        for path in log.run.parent.iterdir():
            path.unlink()
        log.kept.write_bytes(docker(1, "before\n"))
        log.run.write_bytes(run)
        with monkeypatch.context() as patch:
            calls = stops_at(number, patch)
            with contextlib.suppress(Killed):
                log.keep(limit)
            if calls() < number:
                break
        with log.kept.open("ab") as file:
            file.write(b'{"log":"to')  # a buffer that was half written
        assert (log.read(), log.damaged) == (b"before\n" + whole, 2)
        log.keep(limit)
        assert (log.read(), log.damaged) == (b"before\n" + whole, 1)
        assert log.run.read_bytes() == b"damage\n"
    assert number > 5


def test_the_kept_log_has_dockerd_s_bounds(log: Log) -> None:
    for second in range(1, 31):
        log.run.write_bytes(cri(second, "x" * 50))
        log.keep(LogLimit(400, 3))
    sizes = {path.name: path.stat().st_size for path in log.kept.parent.iterdir()}
    assert sorted(sizes) == ["id-json.log", "id-json.log.1", "id-json.log.2"]
    assert max(sizes.values()) <= 400
    assert log.read() in [(b"x" * 50 + b"\n") * count for count in range(6, 10)]
    log.run.write_bytes(cri(31, "y"))
    log.keep(LogLimit(1, 1))
    assert log.read(tail=1) == b"y\n"


def test_a_line_of_any_length_is_read_in_linear_time_and_constant_memory(log: Log) -> None:
    part, count = cri(1, b"x" * 8192, tag="P"), 2000
    with log.run.open("wb") as file:
        for _ in range(count):
            file.write(part)
    tracemalloc.start()
    try:
        size = sum(len(line.data) for line in read_log(log.run, earlier=log.kept))
        tail = sum(len(line.data) for line in read_log(log.run, earlier=log.kept, tail=1))
        log.keep()
        kept = sum(len(line.data) for line in read_log(log.run, earlier=log.kept))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size == tail == kept == count * 8192
    assert peak < 7 * logs._LARGEST_PIECE < size / 2


def test_pieces_of_a_long_line_say_that_they_are_pieces(log: Log) -> None:
    log.run.write_bytes(cri(1, b"x" * 8192, tag="P") * 300 + cri(2, "end") + cri(3, "half", tag="P"))
    lines = list(read_log(log.run))
    assert [(line.continued, line.data[-1:]) for line in lines] == [
        (False, b"x"),
        (True, b"x"),
        (True, b"\n"),
        (False, b"f"),
    ]
    assert {line.time[17:19] for line in lines} == {"01", "03"}
