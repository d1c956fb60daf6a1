"""Handlers that fail before and after their answer has begun; the client must not get a second answer in the first."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiohttp import web

from pylab_container import Engine
from pylab_container.daemon.application import Route, application
from pylab_container.daemon.call import Call
from pylab_container.errors import InvalidInput
from tests.support.waiting import PATIENCE


async def begins_and_fails(call: Call) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(call.request)
    await response.write(b"half")
    if call.flag("known"):
        raise InvalidInput("no")
    raise ZeroDivisionError


async def fails_at_once(call: Call) -> web.StreamResponse:
    raise ZeroDivisionError(call.request.path)


ROUTES = (Route("GET", "/half", begins_and_fails), Route("GET", "/none", fails_at_once))


async def ask(engine: Engine, path: Path, target: str) -> bytes:
    runner = web.AppRunner(application(engine, ROUTES))
    await runner.setup()
    await web.UnixSite(runner, str(path)).start()
    try:
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(f"GET {target} HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n".encode())
        answer = await asyncio.wait_for(reader.read(), PATIENCE)
        writer.close()
        return answer
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("target", ["/half?known=1", "/half"])
def test_an_answer_that_has_begun_is_cut_off(engine: Engine, tmp_path: Path, target: str) -> None:
    answer = asyncio.run(ask(engine, tmp_path / "socket", target))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.count(b"HTTP/1.1") == 1
    assert not answer.endswith(b"0\r\n\r\n")  # the end of a chunked answer (RFC 9112, 7.1)


def test_an_unexpected_failure_is_an_answer_too(engine: Engine, tmp_path: Path) -> None:
    answer = asyncio.run(ask(engine, tmp_path / "socket", "/none"))
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert answer.endswith(b'{"message":"internal error: the log of the daemon has the details"}\n')
