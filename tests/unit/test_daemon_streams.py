"""daemon/streams.py: bodies that the event loop receives, and iterators that threads continue piece by piece."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import web

from pylab_container.daemon.streams import Feed, fetched, received
from pylab_container.daemon.workers import Kind, Workers
from pylab_container.errors import InvalidInput, Unavailable


class _Content:
    """What aiohttp has of a body, in pieces; before each one something may happen."""

    def __init__(self, *pieces: bytes, error: Exception | None = None) -> None:
        self.pieces = pieces
        self.error = error

    async def iter_any(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            await asyncio.sleep(0)
            yield piece
        if self.error:
            raise self.error


def _call(workers: Workers, root: Path, *pieces: bytes, error: Exception | None = None) -> Any:
    async def step(function: Callable[..., Any], *arguments: Any) -> Any:
        return await workers.run(Kind.STREAM, function, *arguments)

    request = SimpleNamespace(content=_Content(*pieces, error=error))
    engine = SimpleNamespace(data=SimpleNamespace(spool_directory=lambda: root))
    return SimpleNamespace(request=request, engine=engine, step=step, workers=workers, input_ended=asyncio.Event())


def _run(test: Callable[[Workers], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        workers = Workers()
        try:
            return await test(workers)
        finally:
            await workers.end(lambda: 60.0)

    return asyncio.run(run())


@pytest.mark.parametrize(
    "pieces", [(), (b"some", b"thing"), (b"x" * 70_000, b"y" * 70_000), (b"z" * 65_536, b"", b"1")]
)
def test_a_body_is_one_file_from_its_beginning(tmp_path: Path, pieces: tuple[bytes, ...]) -> None:
    async def read(workers: Workers) -> bytes:
        with await received(_call(workers, tmp_path, *pieces)) as file:
            return file.read()

    assert _run(read) == b"".join(pieces)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [web.RequestPayloadError("gone"), ConnectionResetError("gone")])
def test_a_body_that_ends_early_is_the_client_s_mistake(tmp_path: Path, error: Exception) -> None:
    async def read(workers: Workers) -> None:
        await received(_call(workers, tmp_path, b"x" * 100_000, error=error))

    with pytest.raises(InvalidInput, match="unexpected EOF"):
        _run(read)
    assert list(tmp_path.iterdir()) == []


def test_an_iterator_waits_for_its_client_without_a_thread_and_is_closed_when_that_goes(tmp_path: Path) -> None:
    closed = threading.Event()
    made: list[int] = []

    def pieces() -> Iterator[bytes]:
        try:
            for number in range(1000):
                made.append(number)
                yield bytes(1 << 18)
        finally:
            closed.set()

    async def take_two(workers: Workers) -> None:
        async with aclosing(fetched(_call(workers, tmp_path), pieces)) as items:
            await anext(items)
            await anext(items)
            # The only thread is idle: it takes other work.
            assert await workers.run(Kind.STREAM, lambda: "free") == "free"

    _run(take_two)
    assert closed.is_set()
    assert made == [0, 1]


def test_as_many_transfers_as_there_may_be_are_under_way_and_one_more_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Workers, "LIMITS", {**Workers.LIMITS, Kind.TRANSFER: 2})
    gate = threading.Event()

    async def begin(workers: Workers) -> list[str]:
        def work(put: Callable[[str], bool], _: threading.Event) -> None:
            gate.wait()
            put("done")

        feeds: list[Feed[str]] = [Feed(_call(workers, tmp_path), work) for _ in range(2)]
        with pytest.raises(Unavailable, match="2 builds and transfers are under way"):
            Feed(_call(workers, tmp_path), work)
        assert await workers.run(Kind.CHANGE, lambda: "short") == "short"
        gate.set()
        told = [item for feed in feeds async for item in feed.items()]
        Feed(_call(workers, tmp_path), cast(Any, lambda put, stop: None))
        return told

    assert _run(begin) == ["done", "done"]
