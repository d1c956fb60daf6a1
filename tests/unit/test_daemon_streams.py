"""daemon/streams.py: a request's body as a file."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from pylab_container.daemon.streams import body_file


class _Content:
    """What aiohttp has of a body, in pieces."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)
        self.ends_told = 0

    async def read(self, size: int) -> bytes:
        if self.pieces:
            return self.pieces.pop(0)
        self.ends_told += 1
        return b""


def test_the_end_of_a_body_is_asked_for_once() -> None:
    content = _Content(b"some", b"thing")

    async def read() -> list[bytes]:
        file = body_file(cast(Any, SimpleNamespace(request=SimpleNamespace(content=content))))
        return await asyncio.to_thread(lambda: [file.read(3), file.read(), *(file.read(5) for _ in range(9))])

    assert asyncio.run(read()) == [b"som", b"ething", *[b""] * 9]
    assert content.ends_told == 1
