"""What happened, for every process that looks: the file behind `labctr events`.

    <data root>/events.log      one JSON document a line, Docker's (Engine API 1.41, "SystemEvents")
    <data root>/events.log.1    the older ones

There is no daemon that could keep the latest events in its memory and hand them out. A file to which
everybody appends needs neither a process nor a lock: a short write(2) with O_APPEND is one piece.
It lies in the data root, which all processes of an engine have in common, and it outlives a
reboot, as the containers do.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from pylab_container.docker.filters import Filters, has_labels, refuse_unknown, values
from pylab_container.events import (
    ContainerChanged,
    Event,
    ImageChanged,
    NetworkAction,
    PruneDone,
    VolumeAction,
    VolumeMounted,
    VolumeUnmounted,
)
from pylab_container.host.lines import whole_lines
from pylab_container.store.reading import open_regular

Json = dict[str, Any]

_LARGEST = 1 << 20
"""Bytes after which a file is full; there are two of them."""
_LONGEST = 1 << 20
"""Bytes of a line that can be an event: one has the labels of an image or a container in it."""
_LOOK = 0.05  # seconds between two looks for something new

# Our actions → Docker's; those of containers that are not here have the same name.
_CONTAINER = {
    "attached": "attach",
    "committed": "commit",
    "created": "create",
    "detached": "detach",
    "exited": "die",
    "exported": "export",
    "killed": "kill",
    "paused": "pause",
    "removed": "destroy",
    "renamed": "rename",
    "resized": "resize",
    "restarted": "restart",
    "started": "start",
    "stopped": "stop",
    "unpaused": "unpause",
    "updated": "update",
}
_IMAGE = {
    "deleted": "delete",
    "imported": "import",
    "loaded": "load",
    "pulled": "pull",
    "pushed": "push",
    "saved": "save",
    "tagged": "tag",
    "untagged": "untag",
}
_WITH_DETAIL = ("exec_create", "exec_start", "health_status")
_DETAILS = {"status": "exitCode", "signal": "signal"}
FILTERS = ("container", "event", "image", "label", "network", "type", "volume")


def documents(event: Event, nanoseconds: int) -> list[Json]:
    """Docker's documents of an event; none for one that Docker does not tell. nanoseconds since 1970."""
    match event:
        case ContainerChanged():
            return [_container(event, nanoseconds)]
        case ImageChanged():
            return _image(event, nanoseconds)
        case VolumeAction():
            return [_document("volume", event.action, event.name, {"driver": event.driver}, nanoseconds)]
        case VolumeMounted():
            attributes = {
                "container": event.container_id,
                "destination": event.destination,
                "driver": event.driver,
                "propagation": event.propagation,
                "read/write": "true" if event.writable else "false",
            }
            return [_document("volume", "mount", event.name, attributes, nanoseconds)]
        case VolumeUnmounted():
            attributes = {"container": event.container_id, "driver": event.driver}
            return [_document("volume", "unmount", event.name, attributes, nanoseconds)]
        case NetworkAction():
            attributes = {"name": event.name, "type": event.driver}
            attributes |= {"container": event.container_id} if event.container_id else {}
            return [_document("network", event.action, event.network_id, attributes, nanoseconds)]
        case PruneDone():
            return [_document(event.kind, "prune", "", {"reclaimed": str(event.reclaimed)}, nanoseconds)]
    return []


def _image(event: ImageChanged, nanoseconds: int) -> list[Json]:
    """Of a new image Docker tells its name first. Only of a name that is given does it tell which."""
    told = []
    if event.action in ("imported", "committed") and event.reference:
        told.append(_image_document(event, "tag", event.image_id, event.reference, nanoseconds))
    if event.action in ("pulled", "pushed"):
        repository = event.reference.partition("@")[0]
        if ":" in repository.rpartition("/")[2]:
            repository = repository.rpartition(":")[0]
        told.append(_image_document(event, _IMAGE[event.action], event.reference, repository, nanoseconds))
    elif event.action in _IMAGE:
        name = event.reference if event.action == "tagged" else event.image_id
        told.append(_image_document(event, _IMAGE[event.action], event.image_id, name, nanoseconds))
    return told


def _image_document(event: ImageChanged, action: str, actor: str, name: str, nanoseconds: int) -> Json:
    told = _document("image", action, actor, {**dict(event.labels), "name": name}, nanoseconds)
    return {"status": action, "id": actor, **told}


def _container(event: ContainerChanged, nanoseconds: int) -> Json:
    attributes = {**dict(event.labels), "image": event.image, "name": event.name, **dict(event.attributes)}
    name, _, value = event.detail.partition(" ")
    if name in _DETAILS:
        attributes[_DETAILS[name]] = value
    action = _CONTAINER.get(event.action, event.action)
    if action in _WITH_DETAIL:
        action = f"{action}: {event.detail}"
    told = _document("container", action, event.container_id, attributes, nanoseconds)
    return {"status": action, "id": event.container_id, "from": event.image, **told}


def _document(kind: str, action: str, actor: str, attributes: Mapping[str, str], nanoseconds: int) -> Json:
    return {
        "Type": kind,
        "Action": action,
        "Actor": {"ID": actor, "Attributes": dict(attributes)},
        "scope": "local",
        "time": nanoseconds // 10**9,
        "timeNano": nanoseconds,
    }


class EventLog:
    """Owns the two files. append() is made to be subscribed to an engine's stream of events.

    look  called before each look into the files: it appends the events that are found only by looking for them
    """

    def __init__(self, data_root: Path, look: Callable[[], None] = lambda: None) -> None:
        self._look = look
        self.path = data_root / "events.log"
        self._older = data_root / "events.log.1"

    def append(self, event: Event) -> None:
        """Write an event down, if it is one of Docker's. What cannot be written is lost: nothing may fail for it."""
        told = documents(event, time.time_ns())
        if not told:
            return
        line = b"".join(json.dumps(one, separators=(",", ":")).encode() + b"\n" for one in told)
        with contextlib.suppress(OSError):
            fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o640)
            try:
                size = os.fstat(fd).st_size
                if size and os.pread(fd, 1, size - 1) != b"\n":
                    line = b"\n" + line  # half a line of a full disk must not take this one with it
                os.write(fd, line)
                if size > _LARGEST:
                    os.rename(self.path, self._older)
            finally:
                os.close(fd)

    def read(
        self,
        *,
        since: float | None = None,
        until: float | None = None,
        filters: Filters | None = None,
        stop: threading.Event | None = None,
        damaged: Callable[[int], object] = lambda count: None,
    ) -> Iterator[Json]:
        """Events in their order, and those that come.

        since    seconds since 1970; None: only what comes from now on, but with until all that was (as dockerd does)
        until    when to stop, None: never
        filters  container, event, image, label, network, type, volume
        stop     set by another thread: nothing more comes
        damaged  called with the number of lines that cannot be read, when there are some and when there are more

        Raises InvalidInput for a filter that there is not.
        """
        stop = stop or threading.Event()
        with contextlib.closing(self.reader(since=since, until=until, filters=filters)) as reader:
            reported = 0
            while True:
                yield from reader.new()
                if reader.damaged > reported:
                    reported = reader.damaged
                    damaged(reported)
                if reader.ended or stop.wait(_LOOK):
                    return

    def reader(
        self, *, since: float | None = None, until: float | None = None, filters: Filters | None = None
    ) -> EventReader:
        """The same for a caller that waits in its own way for what comes. Raises InvalidInput."""
        wanted = filters or {}
        refuse_unknown(wanted, FILTERS)
        first = since or 0.0 if until is not None or since is not None else time.time()
        return EventReader(self.path, self._older, first, until, wanted, self._look)


class EventReader:
    """Reads the two files, look by look. Close it.

    A look that lasts until the file was replaced twice, because its reader is slow, misses what was in the first one.
    """

    def __init__(
        self, path: Path, older: Path, first: float, until: float | None, wanted: Filters, look: Callable[[], None]
    ) -> None:
        """first, until: seconds since 1970, both included; until None: there is no end. look: as EventLog's."""
        self._look = look
        self._path = path
        self._older = older
        self._first = first
        self._until = until
        self._wanted = wanted
        self._file: BinaryIO | None = None
        self._begun = False
        self.ended = False
        self.damaged = 0
        """How many lines could not be read so far."""

    def new(self) -> Iterator[Json]:
        """Events that were written since the last look. Once it is through, ended says whether more may come."""
        late = self._until is not None and time.time() >= self._until
        self._look()
        for told in self._documents():
            moment = told["timeNano"] / 10**9
            if self._until is not None and moment > self._until:
                late = True
                break
            if moment >= self._first and matches(told, self._wanted):
                yield told
        self.ended = late

    def _documents(self) -> Iterator[Json]:
        if not self._begun:
            self._begun = True
            self._file = _open(self._path)
            yield from self._old_documents()
        if self._file is not None:
            yield from self._events(self._file)
        if self._file is None or _replaced(self._file, self._path):
            if self._file is not None:
                yield from self._events(self._file)  # what came between the two looks
            self.close()
            self._file = _open(self._path)
            if self._file is not None:
                yield from self._events(self._file)

    def _old_documents(self) -> Iterator[Json]:
        """Of the older file, unless it was the one that is open until now."""
        older = _open(self._older)
        if older is not None:
            with older:
                if self._file is None or not os.path.sameopenfile(older.fileno(), self._file.fileno()):
                    yield from self._events(older)

    def _events(self, file: BinaryIO) -> Iterator[Json]:
        """What can be read of a file now."""
        for line, _ in whole_lines(file, _LONGEST):
            with contextlib.suppress(ValueError, RecursionError):
                told = json.loads(line)
                if _is_event(told):
                    yield told
                    continue
            self.damaged += line != b"\n"  # an empty line ends half a line before it, which is counted

    def close(self) -> None:
        """Give the file back."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _open(path: Path) -> BinaryIO | None:
    """The file as it is now, None while it does not exist."""
    try:
        return open_regular(path)
    except FileNotFoundError:
        return None


def _replaced(file: BinaryIO, path: Path) -> bool:
    try:
        return os.fstat(file.fileno()).st_ino != path.stat().st_ino
    except FileNotFoundError:
        return True


def _is_event(told: Any) -> bool:
    """Whether a line says what read() relies on: another one is damaged, and passed over."""
    try:
        attributes = told["Actor"]["Attributes"]
        texts = (told["Type"], told["Action"], told["Actor"]["ID"], told["scope"], *attributes, *attributes.values())
        moments = (told["time"], told["timeNano"])
        return all(type(moment) is int and 0 <= moment < 1 << 63 for moment in moments) and all(
            isinstance(text, str) for text in texts
        )
    except (KeyError, TypeError, AttributeError):
        return False


def matches(told: Json, filters: Filters) -> bool:
    """Whether an event passes all filters; several values of one are alternatives, but for labels."""
    return all(_TESTS[name](told, values(filters, name)) for name in filters)


def _names(told: Json, attribute: str) -> tuple[str, str]:
    """What an event tells of: its id, and what stands there as its name."""
    actor = told["Actor"]
    return actor["ID"], str(actor["Attributes"].get(attribute, ""))


def _of_thing(told: Json, wanted: Sequence[str]) -> bool:
    """By the beginning of its id or name. As in dockerd, whatever kind of thing it is; the others are no matter."""
    return any(name.startswith(text) for name in _names(told, "name") for text in wanted)


def _of_image(told: Json, wanted: Sequence[str]) -> bool:
    """By its name, with the tag or without."""
    names = _names(told, "name" if told["Type"] == "image" else "image")
    return any(name == text or name.rpartition(":")[0] == text for name in names for text in wanted)


def _of_event(told: Json, wanted: Sequence[str]) -> bool:
    """By the action, of which "exec_start: sh" or "health_status: healthy" may be given by its first word."""
    action = str(told["Action"])
    return action in wanted or action.partition(":")[0] in wanted


_TESTS: Mapping[str, Callable[[Json, Sequence[str]], bool]] = {
    "container": _of_thing,
    "event": _of_event,
    "image": _of_image,
    "label": lambda told, wanted: has_labels(told["Actor"]["Attributes"], wanted),
    "network": _of_thing,
    "type": lambda told, wanted: told["Type"] in wanted,
    "volume": _of_thing,
}
