"""A container's record: the state is what the flags of Docker's State object say, in both directions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pylab_container.oci.container_config import ContainerConfig
from pylab_container.oci.host_config import HostConfig
from pylab_container.oci.ids import ContainerId
from pylab_container.oci.lifecycle import State
from pylab_container.store import container_store
from pylab_container.store.container_store import ContainerRecord, ContainerStore
from pylab_container.text.timestamps import NEVER

ID = ContainerId("a" * 64)
THEN = "2026-11-24T08:00:00Z"
PLACE = Path("/root/containers") / ID


def record(**changes: Any) -> ContainerRecord:
    values: dict[str, Any] = {"name": "web", "created": THEN, "image": "", "path": "sh", "args": ("-c", "true")}
    return ContainerRecord(**{**values, "id": ID, "config": ContainerConfig(), "host_config": HostConfig(), **changes})


@pytest.mark.parametrize("state", [state for state in State if state is not State.REMOVED])
def test_every_state_comes_back(state: State) -> None:
    one = record(state=state, started_at=NEVER if state is State.CREATED else THEN, pid=7, exit_code=3)
    document = one.document(PLACE)
    assert "Status" not in document["State"]
    assert ContainerRecord.from_documents(document, one.host_config) == one


@pytest.mark.parametrize(
    ("flags", "state"),
    [
        ({"Running": True}, State.RUNNING),
        ({"Running": True, "Paused": True}, State.PAUSED),
        ({"Running": True, "Restarting": True}, State.RESTARTING),
        ({}, State.EXITED),
        ({"StartedAt": NEVER}, State.CREATED),
        ({"StartedAt": NEVER, "Dead": True}, State.EXITED),
        ({"RemovalInProgress": True}, State.EXITED),
    ],
)
def test_the_flags_of_dockerd_say_the_state(flags: dict[str, Any], state: State) -> None:
    none = dict.fromkeys(("Running", "Paused", "Restarting", "OOMKilled", "RemovalInProgress", "Dead"), False)
    said = {**none, "Pid": 0, "ExitCode": 0, "Error": "", "StartedAt": THEN, "FinishedAt": THEN, "Health": None}
    document = {**record().document(PLACE), "State": said | flags}
    assert ContainerRecord.from_documents(document, HostConfig()).state is state


def test_what_only_dockerd_uses_stays_as_it_was() -> None:
    theirs = {"AppArmorProfile": "docker-default", "SecretReferences": [], "MountLabel": "x", "Managed": True}
    document = {**record().document(PLACE), **theirs}
    again = ContainerRecord.from_documents(document, HostConfig()).document(PLACE)
    assert {name: again[name] for name in theirs} == theirs


def test_documents_of_another_version_are_written_back_as_they_were_read() -> None:
    config: dict[str, Any] = {
        "Hostname": "web",
        "Env": [],
        "Cmd": None,
        "Labels": {"a": "b"},
        "FromTheFuture": {"x": [None]},
    }
    endpoint: dict[str, Any] = {
        "Aliases": None,
        "Links": [],
        "NetworkID": "n",
        "IPAMOperational": False,
        "GwPriority": 1,
    }
    network = {"Networks": {"lab": endpoint, "lost": None}, "Service": None, "Ports": {"80/tcp": None}}
    document = {**record().document(PLACE), "Config": config, "NetworkSettings": network}
    host = {"NetworkMode": "lab", "Binds": None, "CapAdd": [], "Devices": [{"PathOnHost": "/dev/fuse", "New": 1}]}
    parsed = ContainerRecord.from_documents(document, HostConfig.parse(host))
    assert parsed.host_config.document() == host
    again = parsed.document(PLACE)
    assert (again["Config"], again["NetworkSettings"]) == (config, network)


def test_mounts_of_this_engines_first_records_are_read() -> None:
    document = record().document(PLACE)
    del document["MountPoints"]
    old = {"Type": "volume", "Name": "data", "Destination": "/data", "RW": False, "Driver": "local", "NoCopy": True}
    (mount,) = ContainerRecord.from_documents({**document, "Mounts": [old]}, HostConfig()).mounts
    assert (mount.type, mount.name, mount.destination) == ("volume", "data", "/data")
    assert (mount.writable, mount.no_copy) == (False, True)


def test_dockerd_gets_the_rights_that_a_container_was_made_with() -> None:
    options = ["no-new-privileges", 'seccomp={"defaultAction":"SCMP_ACT_ALLOW"}']
    document = record(host_config=HostConfig(security_opt=tuple(options))).document(PLACE)
    assert document["NoNewPrivileges"] is True
    assert document["SeccompProfile"] == '{"defaultAction":"SCMP_ACT_ALLOW"}'
    plain = record().document(PLACE)
    assert (plain["NoNewPrivileges"], plain["SeccompProfile"]) == (False, "")


@pytest.mark.parametrize("moment", ["created", "removed"])
def test_a_container_that_comes_or_goes_while_it_is_read_is_not_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    store = ContainerStore(tmp_path / "containers", tmp_path / "locks")
    look = container_store._Version.of
    whole = record(host_config=HostConfig(network_mode="none"))

    def race(directory: str) -> Any:
        monkeypatch.setattr(container_store._Version, "of", look)
        if moment == "removed":
            store.remove(ID)
        try:
            return look(directory)
        finally:
            if moment == "created":
                store.save(whole)

    if moment == "removed":
        store.save(whole)
    monkeypatch.setattr(container_store._Version, "of", race)
    loaded = store.load(ID)
    assert (loaded is not None) == (moment == "created")
