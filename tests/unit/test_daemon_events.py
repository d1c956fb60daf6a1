"""daemon/events.py: from when on a client hears what happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pylab_container.daemon import events
from pylab_container.daemon.watching import WATCHER, Watcher
from pylab_container.daemon.workers import Kind, Workers
from pylab_container.docker.event_log import EventLog
from pylab_container.events import ContainerChanged


def test_what_happens_once_an_answer_has_begun_is_told_however_late_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = EventLog(tmp_path)
    told: list[dict[str, Any]] = []

    async def begin_and_read_later(call: Any, documents: AsyncGenerator[dict[str, Any], None]) -> None:
        log.append(ContainerChanged("started", "ab", "web"))  # the client starts it as soon as the answer has begun
        call.input_ended.set()
        told.extend([document async for document in documents])

    async def stream() -> None:
        workers = Workers()

        async def step(function: Any, *arguments: Any) -> Any:
            return await workers.run(Kind.STREAM, function, *arguments)

        call = SimpleNamespace(
            text=lambda name: "",
            filters=dict,
            engine=SimpleNamespace(event_log=log, data=SimpleNamespace(path=tmp_path)),
            request=SimpleNamespace(app={WATCHER: Watcher()}),
            input_ended=asyncio.Event(),
            step=step,
            workers=workers,
        )
        await events.stream(cast(Any, call))
        await workers.end(lambda: 60.0)

    monkeypatch.setattr(events, "send_lines", begin_and_read_later)
    log.append(ContainerChanged("created", "ab", "web"))
    asyncio.run(stream())
    assert [one["Action"] for one in told] == ["start"]
