"""events.log: what is damaged is left out and counted, and half a line takes no other one with it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from pylab_container.docker.event_log import EventLog
from pylab_container.events import VolumeAction


def names(log: EventLog) -> tuple[list[str], list[int]]:
    counts: list[int] = []
    read = list(log.read(until=time.time() + 1e-6, damaged=counts.append))
    return [told["Actor"]["ID"] for told in read], counts


def line(name: str, **changes: object) -> bytes:
    told = {"Type": "volume", "Action": "create", "Actor": {"ID": name, "Attributes": {}}, "scope": "local"}
    return json.dumps({**told, "time": 1, "timeNano": 10**9, **changes}).encode() + b"\n"


DAMAGE = {
    "zeros": bytes(3 << 20) + b"\n",
    "half": line("x")[:40] + b"\n",
    "deep": b"[" * 100_000 + b"\n",
    "list": b"[]\n",
    "no actor": line("x", Actor=None),
    "no scope": line("x", scope=None),
    "a late moment": line("x", timeNano=10**40),
    "a text for a moment": line("x", time="x"),
    "bytes": b"\xff\xfe\n",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_line_is_left_out_and_counted(tmp_path: Path, damage: bytes) -> None:
    log = EventLog(tmp_path)
    log.path.write_bytes(line("a") + damage + line("b") + damage)
    (tmp_path / "events.log.1").write_bytes(damage + line("older"))
    assert names(log) == (["older", "a", "b"], [3])


def test_half_a_line_of_a_full_disk_does_not_take_the_next_one_with_it(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    log.path.write_bytes(line("a") + line("torn")[:30])
    log.append(VolumeAction("create", "b"))
    log.append(VolumeAction("create", "c"))
    time.sleep(0.001)
    assert names(log) == (["a", "b", "c"], [1])
