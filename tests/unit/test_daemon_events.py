"""daemon/events.py: from when on a client hears what happens."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pylab_container.daemon import events
from pylab_container.engine.event_log import EventLog
from pylab_container.formats.events import ContainerChanged


def test_what_happens_once_an_answer_has_begun_is_told_however_late_a_thread_begins_to_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = EventLog(tmp_path)
    told: list[dict[str, Any]] = []

    async def begin_and_read_later(_: object, read: Callable[[threading.Event], Iterator[dict[str, Any]]]) -> None:
        log.append(ContainerChanged("started", "ab", "web"))  # the client starts it as soon as the answer has begun
        stop = threading.Event()
        stop.set()
        told.extend(read(stop))

    monkeypatch.setattr(events, "send_lines", begin_and_read_later)
    log.append(ContainerChanged("created", "ab", "web"))
    engine = SimpleNamespace(event_log=log)
    call = SimpleNamespace(text=lambda name: "", filters=dict, engine=engine)
    asyncio.run(events.stream(cast(Any, call)))
    assert [one["Action"] for one in told] == ["start"]
