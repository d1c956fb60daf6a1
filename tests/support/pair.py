"""Send the same request to our daemon and to dockerd, and compare the shapes of the answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tests.support.api import Answer, Api
from tests.support.waiting import eventually

Json = Any
Result = TypeVar("Result")

_IDS = re.compile(r"\b[0-9a-f]{12,64}\b")
_FREE_KEYS = ("Labels", "Options", "Networks", "Ports", "Containers", "ExposedPorts", "Volumes", "Data", "Runtimes")
"""Objects whose keys are chosen by clients."""


BUSY: dict[str, Any] = {
    "Image": "busybox:1",
    "Cmd": ["sh", "-c", "echo out; sleep 10000"],
    "Env": ["A=b"],
    "Labels": {"l": "m"},
    "ExposedPorts": {"80/tcp": {}},
    "Healthcheck": {"Test": ["CMD", "true"], "Interval": 10**9},
    "HostConfig": {
        "Binds": ["data:/data", "/tmp:/host:ro"],
        "Memory": 64 << 20,
        "NetworkMode": "net",
        "PortBindings": {"80/tcp": [{"HostPort": ""}]},
        "Ulimits": [{"Name": "nofile", "Soft": 512, "Hard": 1024}],
    },
}


def populate(api: Api, base: Path) -> None:
    """Create an image, a volume, a network, and a container of each kind: running, exited, created."""
    with base.open("rb") as archive:
        parameters = {"fromSrc": "-", "repo": "busybox", "tag": "1", "changes": ['CMD ["sh"]', "LABEL of=image"]}
        answer = api.request("POST", "/images/create", archive.read(), parameters=parameters)
    assert answer.status == 200
    assert api.post("/volumes/create", {"Name": "data", "Labels": {"a": "b"}}).status == 201
    subnet = {"Config": [{"Subnet": "172.31.97.0/24"}]}
    assert api.post("/networks/create", {"Name": "net", "Labels": {"c": "d"}, "IPAM": subnet}).status == 201
    assert api.post("/containers/create", BUSY, name="busy").status == 201
    assert api.post("/containers/busy/start").status == 204
    create_stopped(api)


def create_stopped(api: Api) -> None:
    """Create the containers of populate() that do not run: "created", and "ended", which has exited."""
    assert api.post("/containers/create", {"Image": "busybox:1", "Cmd": ["true"]}, name="created").status == 201
    assert api.post("/containers/create", {"Image": "busybox:1", "Cmd": ["echo", "out"]}, name="ended").status == 201
    assert api.post("/containers/ended/start").status == 204
    assert api.post("/containers/ended/wait").status == 200


def clear(api: Api) -> None:
    """Remove all containers, networks, volumes and images of a daemon, and wait until they are removed.

    Retries, because the daemon refuses to remove a container that it is already removing (--rm), and an image that
    has children.
    """
    api = api.at("1.41")
    custom = {"type": ["custom"]}
    _remove_all(
        lambda: api.get("/containers/json", all=1).document,
        lambda container: api.delete(f"/containers/{container['Id']}", force=1, v=1),
    )
    _remove_all(
        lambda: api.get("/networks", filters=custom).document,
        lambda network: api.delete(f"/networks/{network['Id']}"),
    )
    _remove_all(
        lambda: api.get("/volumes").document["Volumes"] or [],
        lambda volume: api.delete(f"/volumes/{volume['Name']}"),
    )
    _remove_all(
        lambda: api.get("/images/json").document,
        lambda image: api.delete(f"/images/{image['Id']}", force=1),
    )


def _remove_all(list_objects: Callable[[], Json], remove: Callable[[Json], Answer]) -> None:
    def removed() -> bool:
        for item in list_objects():
            remove(item)
        return not list_objects()

    eventually(removed)


@dataclass(frozen=True)
class Pair:
    """Clients of our daemon and of dockerd. Each method returns (our answer, dockerd's answer)."""

    ours: Api
    docker: Api

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        parameters: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[Answer, Answer]:
        """Send the same request to both daemons concurrently."""

        def send(api: Api) -> Answer:
            return api.request(method, path, body, parameters=parameters, headers=headers)

        return self.both(send)

    def both(self, act: Callable[[Api], Result]) -> tuple[Result, Result]:
        """Call act for both daemons concurrently."""
        with ThreadPoolExecutor(1) as thread:
            docker = thread.submit(act, self.docker)
            return act(self.ours), docker.result()

    def post(self, path: str, body: object = None, **parameters: Any) -> tuple[Answer, Answer]:
        return self.request("POST", path, body, parameters=parameters)

    def get(self, path: str, **parameters: Any) -> tuple[Answer, Answer]:
        return self.request("GET", path, parameters=parameters)

    def delete(self, path: str, **parameters: Any) -> tuple[Answer, Answer]:
        return self.request("DELETE", path, parameters=parameters)


def words(answer: Answer) -> str:
    """Return an error's message with ids replaced by ID, because they differ between the daemons."""
    return _IDS.sub("ID", answer.message)


def shape(document: object, place: str = "") -> dict[str, str]:
    """Map each place in a document to the kind of its value: truth, number, text or empty (null, {} or []).

    All items of a list share one place: "Mounts[].Source".
    """
    return dict(_shape(document, place))


def _shape(value: object, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value and not place.endswith(_FREE_KEYS):
        for key, inner in value.items():
            yield from _shape(inner, f"{place}.{key}" if place else key)
    elif isinstance(value, dict) and value:
        yield from _shape(next(iter(value.values())), f"{place}.*")
    elif isinstance(value, list) and value:
        for item in value:
            yield from _shape(item, f"{place}[]")
    elif value is None or value in ({}, []):
        yield place, "empty"
    else:
        yield place, {bool: "truth", int: "number", float: "number", str: "text"}[type(value)]


def differences(ours: object, docker: object) -> set[str]:
    """Return the places where two documents differ in shape.

    "+ Place" exists only in ours, "- Place" only in dockerd's, "~ Place" has values of different kinds. An empty value
    matches every kind.
    """
    left, right = shape(ours), shape(docker)
    missing = {f"+ {place}" for place in left if not _known(place, right)}
    missing |= {f"- {place}" for place in right if not _known(place, left)}
    both = [place for place in left if place in right and "empty" not in (left[place], right[place])]
    return missing | {f"~ {place}" for place in both if left[place] != right[place]}


def _known(place: str, shapes: Mapping[str, str]) -> bool:
    """Return whether shapes has this place, a place inside it, or an empty value in place of one of its parents."""
    if any(other == place or other.startswith((f"{place}.", f"{place}[")) for other in shapes):
        return True
    return any(kind == "empty" and place.startswith((f"{other}.", f"{other}[")) for other, kind in shapes.items())
