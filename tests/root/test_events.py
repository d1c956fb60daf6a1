"""events: the log of what all processes on a data root did, and its readers."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pylab_container import Engine
from pylab_container.docker import event_log
from pylab_container.docker.event_log import EventLog
from pylab_container.errors import InvalidInput
from pylab_container.events import (
    ContainerChanged,
    Event,
    ImageChanged,
    NetworkAction,
    Progress,
    PruneDone,
    VolumeAction,
    VolumeMounted,
    VolumeUnmounted,
)
from pylab_container.host import programs
from pylab_container.images.image import Image
from pylab_container.networks import attachment_events
from pylab_container.store.container_store import ContainerRecord
from tests.support.commands import Labctr
from tests.support.waiting import PATIENCE


def actions(events: Iterator[dict[str, Any]]) -> list[str]:
    return [f"{event['Type']} {event['Action']}" for event in events]


# -- the file ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "kind", "action", "attributes"),
    [
        (
            ContainerChanged("exited", "ab", "web", "status 3", image="busybox:1", labels=(("a", "b"),)),
            "container",
            "die",
            {"a": "b", "image": "busybox:1", "name": "web", "exitCode": "3"},
        ),
        (
            ContainerChanged("exec_start", "ab", "web", "sh -c x", attributes=(("execID", "cd"),)),
            "container",
            "exec_start: sh -c x",
            {"image": "", "name": "web", "execID": "cd"},
        ),
        (
            ContainerChanged("exec_die", "ab", "web", "status 3", attributes=(("execID", "cd"),)),
            "container",
            "exec_die",
            {"image": "", "name": "web", "execID": "cd", "exitCode": "3"},
        ),
        (
            ContainerChanged("renamed", "ab", "web", attributes=(("oldName", "/old"),)),
            "container",
            "rename",
            {"image": "", "name": "web", "oldName": "/old"},
        ),
        (
            ContainerChanged("killed", "ab", "web", "signal 9"),
            "container",
            "kill",
            {"image": "", "name": "web", "signal": "9"},
        ),
        (
            ContainerChanged("health_status", "ab", "web", "healthy"),
            "container",
            "health_status: healthy",
            {"image": "", "name": "web"},
        ),
        (ImageChanged("tagged", "sha256:ab", "busybox:1"), "image", "tag", {"name": "busybox:1"}),
        (ImageChanged("deleted", "sha256:ab"), "image", "delete", {"name": "sha256:ab"}),
        (ImageChanged("untagged", "sha256:ab", "busybox:1"), "image", "untag", {"name": "sha256:ab"}),
        (ImageChanged("loaded", "sha256:ab"), "image", "load", {"name": "sha256:ab"}),
        (ImageChanged("saved", "sha256:ab"), "image", "save", {"name": "sha256:ab"}),
        (ImageChanged("pulled", "sha256:ab", "lab:5000/busybox:1"), "image", "pull", {"name": "lab:5000/busybox"}),
        (ImageChanged("pushed", "sha256:ab", "busybox:1"), "image", "push", {"name": "busybox"}),
        (VolumeAction("create", "data"), "volume", "create", {"driver": "local"}),
        (
            VolumeMounted("data", container_id="ab", destination="/d", writable=False),
            "volume",
            "mount",
            {"container": "ab", "destination": "/d", "driver": "local", "propagation": "", "read/write": "false"},
        ),
        (VolumeUnmounted("data", container_id="ab"), "volume", "unmount", {"container": "ab", "driver": "local"}),
        (PruneDone("builder", 7), "builder", "prune", {"reclaimed": "7"}),
        (
            NetworkAction("connect", "cd", "net", "bridge", "ab"),
            "network",
            "connect",
            {"name": "net", "type": "bridge", "container": "ab"},
        ),
    ],
)
def test_events_are_dockers(event: Event, kind: str, action: str, attributes: dict[str, str]) -> None:
    (document,) = event_log.documents(event, 1_500_000_000)
    assert (document["Type"], document["Action"], document["Actor"]["Attributes"]) == (kind, action, attributes)
    assert (document["time"], document["timeNano"], document["scope"]) == (1, 1_500_000_000, "local")


def test_a_new_image_with_a_name_is_logged_as_a_tag_first() -> None:
    tag, made = event_log.documents(ImageChanged("imported", "sha256:ab", "busybox:1"), 0)
    assert (tag["Action"], tag["Actor"]["Attributes"]) == ("tag", {"name": "busybox:1"})
    assert (made["Action"], made["Actor"]["Attributes"]) == ("import", {"name": "sha256:ab"})
    assert [one["Action"] for one in event_log.documents(ImageChanged("imported", "sha256:ab"), 0)] == ["import"]


def test_a_reader_ends_when_it_is_stopped(tmp_path: Path) -> None:
    log, stop = EventLog(tmp_path), threading.Event()
    log.append(VolumeAction("create", "data"))
    logged = log.read(since=0, stop=stop)
    assert next(logged)["Actor"]["ID"] == "data"
    threading.Timer(0.1, stop.set).start()
    assert list(logged) == []
    assert stop.is_set()  # and not before


def test_events_that_docker_does_not_have_are_not_written(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    log.append(Progress("hashing", 1))
    assert not log.path.exists()


def test_a_full_file_is_rotated_and_its_events_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_log, "MAX_FILE_SIZE", 1000)
    log = EventLog(tmp_path)
    for number in range(9):
        log.append(VolumeAction("create", f"v{number}"))
    assert (tmp_path / "events.log.1").exists()
    assert [one["Actor"]["ID"] for one in log.read(since=0, until=time.time())][-6:] == [f"v{n}" for n in range(3, 9)]


def test_a_reader_sees_events_across_a_rotation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_log, "MAX_FILE_SIZE", 300)
    log = EventLog(tmp_path)
    log.append(VolumeAction("create", "before"))
    logged = log.read(since=0)
    seen = [next(logged)["Actor"]["ID"]]
    for number in range(3):
        log.append(VolumeAction("create", f"v{number}"))
        seen.append(next(logged)["Actor"]["ID"])
    assert seen == ["before", "v0", "v1", "v2"]


def test_broken_lines_are_skipped(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    log.append(VolumeAction("create", "one"))
    with log.path.open("a") as file:
        file.write('{"half\n')
    log.append(VolumeAction("create", "two"))
    assert [one["Actor"]["ID"] for one in log.read(since=0, until=time.time())] == ["one", "two"]


def test_filters_choose(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    log.append(ContainerChanged("started", "abcdef", "web", image="busybox:1", labels=(("a", "b"),)))
    log.append(ContainerChanged("health_status", "abcdef", "web", "healthy", image="busybox:1"))
    log.append(VolumeAction("create", "data"))
    log.append(NetworkAction("connect", "fedcba", "net", "bridge", "abcdef"))
    log.append(ImageChanged("tagged", "sha256:ab", "busybox:1"))
    cases: list[tuple[dict[str, Any], list[str]]] = [
        ({"type": "volume"}, ["volume create"]),
        ({"type": ["volume", "network"]}, ["volume create", "network connect"]),
        ({"event": "start"}, ["container start"]),
        ({"event": "health_status"}, ["container health_status: healthy"]),
        ({"container": "web", "event": "start"}, ["container start"]),
        ({"container": "abcd", "type": "container"}, ["container start", "container health_status: healthy"]),
        ({"container": "abcdef", "type": "network"}, []),
        ({"container": "", "event": "start"}, ["container start"]),
        ({"network": "net"}, ["network connect"]),
        ({"network": "fe"}, ["network connect"]),
        ({"volume": "data"}, ["volume create"]),
        ({"image": "busybox", "event": "start"}, ["container start"]),
        ({"image": "busybox:1", "type": "image"}, ["image tag"]),
        ({"label": "a=b"}, ["container start"]),
    ]
    for filters, expected in cases:
        assert actions(log.read(since=0, until=time.time(), filters=filters)) == expected, filters
    with pytest.raises(InvalidInput, match="Invalid filter 'foo'"):
        next(log.read(since=0, filters={"foo": "bar"}))


# -- the order ---------------------------------------------------------------------------------


def test_a_start_is_logged_before_the_exit_however_soon_that_comes(
    engine: Engine, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    container = engine.containers.create(
        image, ["true"], network_mode="none", healthcheck={"test": "true", "interval": 10**9}
    )
    looking = threading.Thread(target=lambda: Engine(engine.data_root).containers.get(container.id).status)

    def ended(*_: object) -> None:
        """Another engine looks after the process has exited; for half a second it could log the exit too early."""
        engine.runtime.monitor(container.id).wait(PATIENCE)
        looking.start()
        looking.join(0.5)

    with monkeypatch.context() as patched:
        patched.setattr(attachment_events, "emit_joined", ended)
        container.start()
    looking.join()
    logged = engine.event_log.read(since=0, until=time.time(), filters={"container": container.id, "type": "container"})
    assert actions(logged) == ["container create", "container start", "container die"]


def test_an_exit_is_logged_before_it_is_recorded(engine: Engine, image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    container = engine.containers.create(image, ["true"], network_mode="none")
    container.start_attached().close()
    seen = []
    save = engine.data.records.save

    def saved(record: ContainerRecord) -> ContainerRecord:
        logged = engine.event_log.read(since=0, until=time.time(), filters={"event": "die"})
        seen.append((str(record.state), actions(logged)))
        return save(record)

    with monkeypatch.context() as patched:
        patched.setattr(engine.data.records, "save", saved)
        container.wait()
    assert seen == [("exited", ["container die"])]


# -- the command -------------------------------------------------------------------------------


@pytest.mark.usefixtures("image")
def test_the_life_of_a_container_is_logged_as_docker_logs_it(labctr: Labctr, cli: Labctr) -> None:
    container_id = cli("run", "-d", "--name", "web", "-l", "a=b", "busybox:1", "sleep", "100").stdout.strip()
    cli("pause", "web")
    cli("unpause", "web")
    cli("stop", "-t", "0", "web")
    cli("rm", "web")
    logged = labctr("events", "--since", "5m", "--until", "0s", "--filter", "container=web").stdout.splitlines()
    found = [re.fullmatch(rf"\S+Z container (\S+) {container_id} \((.*)\)", line) for line in logged]
    words = [match[1] for match in found if match]
    assert [word for word in words if word != "kill"] == [
        *("create", "start", "pause", "unpause", "die", "stop", "destroy")
    ]
    assert found[0]
    assert found[0][2] == "a=b, image=busybox:1, name=web"
    line = cli(
        "events",
        "--since",
        "5m",
        "--until",
        "0s",
        "-f",
        "event=die",
        "--format",
        "{{.Status}} {{.Actor.Attributes.name}}",
    )
    assert line.stdout == "die web\n"
    document = json.loads(
        cli("events", "--since", "5m", "--until", "0s", "-f", "event=create", "--format", "json").stdout
    )
    assert document["Actor"]["ID"] == container_id


@pytest.mark.usefixtures("image")
def test_another_process_sees_it_at_once(cli: Labctr, command: list[str], repository: Path, engine: Engine) -> None:
    line = [*command, "events", "--since", f"{time.time():.6f}", "--filter", "type=volume"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, cwd=repository) as watching:
        try:
            assert watching.stdout is not None
            engine.volumes.create("first")  # logged before or after it began to look; from here on it looks
            assert "volume create first (driver=local)" in watching.stdout.readline()
            engine.volumes.create("data")
            assert "volume create data (driver=local)" in watching.stdout.readline()
            engine.volumes.remove("data")
            assert "volume destroy data (driver=local)" in watching.stdout.readline()
        finally:
            watching.terminate()


def test_a_mistake_is_reported(cli: Labctr) -> None:
    assert "Invalid filter 'foo'" in cli("events", "--filter", "foo=bar", check=False).stderr
    assert "invalid time" in cli("events", "--since", "noon", check=False).stderr


@pytest.mark.usefixtures("image")
def test_a_volume_is_logged_again_when_it_is_requested_again(cli: Labctr) -> None:
    cli("volume", "create", "data")
    cli("run", "--rm", "--name", "web", "-v", "data:/d", "busybox:1", "true")
    cli("volume", "rm", "data")
    logged = cli("events", "--since", "5m", "--until", "0s", "-f", "volume=data", "--format", "{{.Action}}").stdout
    assert logged.split() == ["create", "create", "mount", "unmount", "destroy"]


LATE_RUNTIME = """#!/bin/sh
# The real one does its work; this one reports it when the exit command runs, and had time to log the exit too early.
case " $* " in *" kill "*) ;; *) exec {runc} "$@" ;; esac
{runc} "$@"; status=$?; looks=0
until cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -q "settle {container_id}"; do
    looks=$((looks + 1)); [ $looks -lt 50 ] || break
    sleep 0.1
done
sleep 0.5
exit $status
"""


def test_a_signal_is_logged_before_the_exit_that_it_causes(
    engine: Engine, image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    container = engine.containers.run_detached(image, ["sleep", "1000"], network_mode="none")
    fake = tmp_path / "bin/runc"
    fake.parent.mkdir()
    fake.write_text(LATE_RUNTIME.format(runc=programs.find("runc"), container_id=container.id))
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    container.kill()  # when the runtime returns, the exit command waits to record the exit
    wanted = {"container": container.id, "event": ["kill", "die"]}
    logged = engine.event_log.read(since=0, until=time.time(), filters=wanted)
    assert actions(logged) == ["container kill", "container die"]
