"""The event log: the file behind `labctr events`, to which every process appends.

    <data root>/events.log      one JSON document a line, Docker's (Engine API 1.41, "SystemEvents")
    <data root>/events.log.1    the previous file, replaced when events.log is full

An event is a value of events.py; a document is its form in Docker's API. dockerd keeps the last documents in memory.
Here no process runs all the time, so they are stored in a file. Appending needs neither a server nor a lock: a short
write(2) to a file opened with O_APPEND is atomic. The file outlives a reboot, as containers do.
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
from pylab_container.oci.image import Json
from pylab_container.store.reading import open_regular

MAX_FILE_SIZE = 1 << 20
"""Size in bytes from which the file is renamed to events.log.1."""
MAX_LINE_SIZE = 1 << 20
"""Longest line in bytes that is parsed: a document holds all labels of an image or a container."""
POLL_INTERVAL = 0.05  # seconds between two reads for new documents

# ContainerChanged.action → Docker's action. An action that is not listed has the same name.
CONTAINER_ACTIONS = {
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
# ImageChanged.action → Docker's action. Docker has no event for an action that is not listed.
IMAGE_ACTIONS = {
    "deleted": "delete",
    "imported": "import",
    "loaded": "load",
    "pulled": "pull",
    "pushed": "push",
    "saved": "save",
    "tagged": "tag",
    "untagged": "untag",
}
ACTIONS_WITH_DETAIL = ("exec_create", "exec_start", "health_status")
"""Actions whose detail is part of the action: "health_status: healthy"."""
DETAIL_ATTRIBUTES = {"status": "exitCode", "signal": "signal"}
"""First word of a detail → Docker's attribute that has the rest: "status 137" is exitCode=137."""
FILTERS = ("container", "event", "image", "label", "network", "type", "volume")


# -- from events to documents --------------------------------------------------------------------


def documents(event: Event, nanoseconds: int) -> list[Json]:
    """Return Docker's documents for an event: an empty list if Docker has none for it.

    nanoseconds  the time of the event, since 1970
    """
    match event:
        case ContainerChanged():
            return [_container_document(event, nanoseconds)]
        case ImageChanged():
            return _image_documents(event, nanoseconds)
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


def _image_documents(event: ImageChanged, nanoseconds: int) -> list[Json]:
    """Return the documents for an image: as in dockerd, the tag of a new image comes first.

    The attribute "name" of "tag" is the new name; of other actions it is the image's id.
    """
    result = []
    if event.action in ("imported", "committed") and event.reference:
        result.append(_image_document(event, "tag", event.image_id, event.reference, nanoseconds))
    if event.action in ("pulled", "pushed"):
        repository = event.reference.partition("@")[0]
        if ":" in repository.rpartition("/")[2]:
            repository = repository.rpartition(":")[0]
        action = IMAGE_ACTIONS[event.action]
        result.append(_image_document(event, action, event.reference, repository, nanoseconds))
    elif event.action in IMAGE_ACTIONS:
        name = event.reference if event.action == "tagged" else event.image_id
        result.append(_image_document(event, IMAGE_ACTIONS[event.action], event.image_id, name, nanoseconds))
    return result


def _image_document(event: ImageChanged, action: str, actor: str, name: str, nanoseconds: int) -> Json:
    document = _document("image", action, actor, {**dict(event.labels), "name": name}, nanoseconds)
    return {"status": action, "id": actor, **document}


def _container_document(event: ContainerChanged, nanoseconds: int) -> Json:
    attributes = {**dict(event.labels), "image": event.image, "name": event.name, **dict(event.attributes)}
    name, _, value = event.detail.partition(" ")
    if name in DETAIL_ATTRIBUTES:
        attributes[DETAIL_ATTRIBUTES[name]] = value
    action = CONTAINER_ACTIONS.get(event.action, event.action)
    if action in ACTIONS_WITH_DETAIL:
        action = f"{action}: {event.detail}"
    document = _document("container", action, event.container_id, attributes, nanoseconds)
    return {"status": action, "id": event.container_id, "from": event.image, **document}


def _document(kind: str, action: str, actor: str, attributes: Mapping[str, str], nanoseconds: int) -> Json:
    return {
        "Type": kind,
        "Action": action,
        "Actor": {"ID": actor, "Attributes": dict(attributes)},
        "scope": "local",
        "time": nanoseconds // 10**9,
        "timeNano": nanoseconds,
    }


# -- the files -----------------------------------------------------------------------------------


class EventLog:
    """The two files of a data root's event log.

    append() is a subscriber for an engine's event stream.

    detect  called before each read: it emits the events that are only noticed by checking for them, as running out
            of memory is
    """

    def __init__(self, data_root: Path, detect: Callable[[], None] = lambda: None) -> None:
        self._detect = detect
        self.path = data_root / "events.log"
        self._previous = data_root / "events.log.1"

    def append(self, event: Event) -> None:
        """Append an event's documents.

        They are lost if that fails: no operation may fail because of its event.
        """
        new = documents(event, time.time_ns())
        if not new:
            return
        lines = b"".join(json.dumps(document, separators=(",", ":")).encode() + b"\n" for document in new)
        with contextlib.suppress(OSError):
            fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o640)
            try:
                size = os.fstat(fd).st_size
                if size and os.pread(fd, 1, size - 1) != b"\n":
                    lines = b"\n" + lines  # a full disk cut the last line: end it, so that only that one is damaged
                os.write(fd, lines)
                if size > MAX_FILE_SIZE:
                    os.rename(self.path, self._previous)
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
        """Yield documents in the order of the files, then new ones as they are appended.

        since    seconds since 1970; None: from now on, or with until, from the start of the log (as in dockerd)
        until    seconds since 1970 at which to end; None: never
        filters  container, event, image, label, network, type, volume
        stop     set by another thread to end the iteration
        damaged  called with the number of damaged lines so far, each time it has grown

        Raises InvalidInput for an unknown filter.
        """
        stop = stop or threading.Event()
        with contextlib.closing(self.reader(since=since, until=until, filters=filters)) as reader:
            reported = 0
            while True:
                yield from reader.new()
                if reader.damaged > reported:
                    reported = reader.damaged
                    damaged(reported)
                if reader.ended or stop.wait(POLL_INTERVAL):
                    return

    def reader(
        self, *, since: float | None = None, until: float | None = None, filters: Filters | None = None
    ) -> EventReader:
        """Return a reader for a caller that polls itself; arguments as for read().

        Raises InvalidInput.
        """
        refuse_unknown(filters or {}, FILTERS)
        first = since or 0.0 if until is not None or since is not None else time.time()
        return EventReader(self.path, self._previous, first, until, filters or {}, self._detect)


class EventReader:
    """Reads the documents of both files incrementally. The caller closes it.

    ended    whether `until` has passed, so that new() yields nothing more
    damaged  number of lines that could not be read so far

    A reader misses documents if the log is replaced twice between two calls of new().
    """

    def __init__(
        self,
        path: Path,
        previous: Path,
        since: float,
        until: float | None,
        filters: Filters,
        detect: Callable[[], None],
    ) -> None:
        """since, until: seconds since 1970, inclusive, until may be None; detect: as for EventLog."""
        self._detect = detect
        self._path = path
        self._previous = previous
        self._since = since
        self._until = until
        self._filters = filters
        self._file: BinaryIO | None = None
        self._has_started = False
        self.ended = False
        self.damaged = 0

    def new(self) -> Iterator[Json]:
        """Yield the matching documents that were appended since the last call; then update ended."""
        ended = self._until is not None and time.time() >= self._until
        self._detect()
        for document in self._appended():
            moment = document["timeNano"] / 10**9
            if self._until is not None and moment > self._until:
                ended = True
                break
            if moment >= self._since and matches(document, self._filters):
                yield document
        self.ended = ended

    def _appended(self) -> Iterator[Json]:
        if not self._has_started:
            self._has_started = True
            self._file = _open(self._path)
            yield from self._previous_documents()
        if self._file is not None:
            yield from self._parsed(self._file)
        if self._file is None or _is_replaced(self._file, self._path):
            if self._file is not None:
                yield from self._parsed(self._file)  # appended between the read above and the rename
            self.close()
            self._file = _open(self._path)
            if self._file is not None:
                yield from self._parsed(self._file)

    def _previous_documents(self) -> Iterator[Json]:
        """Yield the documents of events.log.1, unless it is the file that was just opened as events.log."""
        previous = _open(self._previous)
        if previous is not None:
            with previous:
                if self._file is None or not os.path.sameopenfile(previous.fileno(), self._file.fileno()):
                    yield from self._parsed(previous)

    def _parsed(self, file: BinaryIO) -> Iterator[Json]:
        """Yield the documents from the file's position to its last whole line."""
        for line, _ in whole_lines(file, MAX_LINE_SIZE):
            with contextlib.suppress(ValueError, RecursionError):
                document = json.loads(line)
                if _is_valid(document):
                    yield document
                    continue
            self.damaged += line != b"\n"  # append() ends a cut line with an empty one; the cut line is counted

    def close(self) -> None:
        """Close the file. Idempotent."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _open(path: Path) -> BinaryIO | None:
    """Open a file for reading; return None if it does not exist."""
    try:
        return open_regular(path)
    except FileNotFoundError:
        return None


def _is_replaced(file: BinaryIO, path: Path) -> bool:
    """Return whether path is another file now, or does not exist."""
    try:
        return os.fstat(file.fileno()).st_ino != path.stat().st_ino
    except FileNotFoundError:
        return True


def _is_valid(document: Any) -> bool:
    """Return whether a parsed line has every field that its readers use, with the right type."""
    try:
        attributes = document["Actor"]["Attributes"]
        texts = (document["Type"], document["Action"], document["Actor"]["ID"], document["scope"])
        times = (document["time"], document["timeNano"])
        return all(type(moment) is int and 0 <= moment < 1 << 63 for moment in times) and all(
            isinstance(text, str) for text in (*texts, *attributes, *attributes.values())
        )
    except (KeyError, TypeError, AttributeError):
        return False


# -- filters -------------------------------------------------------------------------------------


def matches(document: Json, filters: Filters) -> bool:
    """Return whether a document passes all filters.

    Several values of one filter are alternatives, except labels, which must all match.
    """
    return all(TESTS[name](document, values(filters, name)) for name in filters)


def _identifiers(document: Json, attribute: str) -> tuple[str, str]:
    """Return the id of a document's object, and the attribute that has its name."""
    actor = document["Actor"]
    return actor["ID"], str(actor["Attributes"].get(attribute, ""))


def _matches_object(document: Json, prefixes: Sequence[str]) -> bool:
    """Match by the beginning of id or name. As in dockerd, the object may be of any type."""
    return any(name.startswith(prefix) for name in _identifiers(document, "name") for prefix in prefixes)


def _matches_image(document: Json, names: Sequence[str]) -> bool:
    """Match an image's id or name, with or without its tag; of a container, those of its image."""
    known = _identifiers(document, "name" if document["Type"] == "image" else "image")
    return any(name in (other, other.rpartition(":")[0]) for other in known for name in names)


def _matches_action(document: Json, actions: Sequence[str]) -> bool:
    """Match the action; "exec_start: sh" and "health_status: healthy" also by the word before the colon."""
    action = str(document["Action"])
    return action in actions or action.partition(":")[0] in actions


TESTS: Mapping[str, Callable[[Json, Sequence[str]], bool]] = {
    "container": _matches_object,
    "event": _matches_action,
    "image": _matches_image,
    "label": lambda document, labels: has_labels(document["Actor"]["Attributes"], labels),
    "network": _matches_object,
    "type": lambda document, kinds: document["Type"] in kinds,
    "volume": _matches_object,
}
