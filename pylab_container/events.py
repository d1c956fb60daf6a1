"""What an operation can say about itself, as values.

Progress bars, the notebook's "what just happened" table, `labctr events` and
`--explain` are all readers of one stream of these. A mechanism reports by calling an
`Emit`; it never prints and does not know who listens.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import unquote

from msgspec import Struct

from pylab_container.errors import CorruptStore


class Event(Struct, frozen=True):
    """One thing that happened. `sentence()` tells it to a person in one line."""

    def sentence(self) -> str:
        return type(self).__name__


class Progress(Event, frozen=True):
    """Part of a long operation is done.

    activity  what is being done, as a noun phrase: "extracting", "hashing"
    done      bytes or items so far
    total     bytes or items in all, None where nobody knows
    """

    activity: str
    done: int
    total: int | None = None

    def sentence(self) -> str:
        of = f" of {self.total}" if self.total else ""
        return f"{self.activity}: {self.done}{of}"


class LayerRegistered(Event, frozen=True):
    """A layer is complete on disk and known by its chain id."""

    chain_id: str
    diff_id: str
    cache_id: str
    size: int
    driver: str = "overlay2"

    def sentence(self) -> str:
        return (
            f"layer {self.diff_id[7:19]} registered as chain {self.chain_id[7:19]}, "
            f"{self.size} bytes in {self.driver}/{self.cache_id[:12]}"
        )


class LayerRemoved(Event, frozen=True):
    """Nobody needed the layer any more and its directory is gone."""

    chain_id: str
    cache_id: str
    driver: str = "overlay2"

    def sentence(self) -> str:
        return f"layer {self.chain_id[7:19]} removed with {self.driver}/{self.cache_id[:12]}"


class StoreDamaged(Event, frozen=True):
    """A file of the data root cannot be used; what it describes was left out of a listing, or was not removed."""

    path: str
    message: str

    @classmethod
    def of(cls, error: CorruptStore) -> StoreDamaged:
        """The event for an error that the operation survives."""
        return cls(error.path, error.message)

    def sentence(self) -> str:
        return f"{self.message}; labctr system fsck says what to do"


class OverlayMounted(Event, frozen=True):
    """mount(2) joined the layers; `options` is the string that the kernel got."""

    cache_id: str
    target: str
    options: str

    def sentence(self) -> str:
        return f"mount -t overlay -o {self.options} overlay {self.target}"


class OverlayUnmounted(Event, frozen=True):
    """The merged view is gone; the layers are as they were."""

    cache_id: str
    target: str

    def sentence(self) -> str:
        return f"umount {self.target}"


class ImageChanged(Event, frozen=True):
    """An image was imported, committed, tagged, untagged or deleted (`action`).

    "named" and "unnamed" tell of the names in an archive that is loaded; Docker has no event for them.
    """

    action: str
    image_id: str
    reference: str = ""
    labels: tuple[tuple[str, str], ...] = ()

    def sentence(self) -> str:
        name = f" as {self.reference}" if self.reference else ""
        return f"image {self.action} {self.image_id[7:19]}{name}"


class ContainerChanged(Event, frozen=True):
    """A container was created, started, stopped, removed … (`action`).

    detail      "status 3" of one that exited, "signal 9" of one that was killed
    image       the name of its image
    labels      its own
    attributes  what else Docker's event of this action has: execID, oldName …
    """

    action: str
    container_id: str
    name: str
    detail: str = ""
    image: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    attributes: tuple[tuple[str, str], ...] = ()

    def sentence(self) -> str:
        return f"container {self.action} {self.container_id[:12]} ({self.name}) {self.detail}".rstrip()


class NetworkChanged(Event, frozen=True):
    """The kernel's network was changed; `command` is the equivalent ip or nft command."""

    command: str

    def sentence(self) -> str:
        return self.command


class LayerTransfer(Event, frozen=True):
    """How far one layer of a pull or push is, in docker's words (docker/progress.py).

    status          "Downloading", "Pull complete", "Layer already exists", …
    layer           the first twelve digits of its digest (pull) or diff id (push)
    current, total  bytes, 0 where there is nothing to count
    """

    status: str
    layer: str
    current: int = 0
    total: int = 0

    def sentence(self) -> str:
        amount = f" {self.current} of {self.total}" if self.total else ""
        return f"{self.layer}: {self.status}{amount}"


class TransferMessage(Event, frozen=True):
    """What a pull or push says besides: "Digest: sha256:…"; name is a tag, or ""."""

    status: str
    name: str = ""

    def sentence(self) -> str:
        return f"{self.name}: {self.status}" if self.name else self.status


class PushResult(Event, frozen=True):
    """A registry has an image now: under this tag, and with a manifest of this digest and size in bytes."""

    tag: str
    digest: str
    size: int

    def sentence(self) -> str:
        return f"{self.tag} pushed as {self.digest}"


class RegistryRequest(Event, frozen=True):
    """A registry was asked something, and answered.

    status  of HTTP, 0 where no answer came
    sent    bytes of the request's body
    bytes   of the answer's body, as its header tells
    """

    method: str
    host: str
    path: str
    status: int
    sent: int
    bytes: int
    seconds: float

    def sentence(self) -> str:
        amount = f"{self.sent} bytes sent" if self.sent else f"{self.bytes} bytes"
        told = f"{self.host}: {self.status}, {amount}, {self.seconds * 1000:.0f} ms"
        return f"{self.method} {unquote(self.path)}  ({told})"


class VolumeAction(Event, frozen=True):
    """A volume was made or removed ("create", "destroy")."""

    action: str
    name: str
    driver: str = "local"

    def sentence(self) -> str:
        return f"volume {self.action} {self.name}"


class VolumeMounted(Event, frozen=True):
    """A container starts with this volume."""

    name: str
    container_id: str
    destination: str
    writable: bool
    propagation: str = ""
    driver: str = "local"

    def sentence(self) -> str:
        return f"volume {self.name} mounted at {self.destination} of {self.container_id[:12]}"


class VolumeUnmounted(Event, frozen=True):
    """A container with this volume has ended."""

    name: str
    container_id: str
    driver: str = "local"

    def sentence(self) -> str:
        return f"volume {self.name} unmounted of {self.container_id[:12]}"


class PruneDone(Event, frozen=True):
    """What nobody needed of one kind is gone.

    kind       "container", "image", "network", "volume" or "builder"
    reclaimed  bytes
    """

    kind: str
    reclaimed: int

    def sentence(self) -> str:
        return f"{self.kind} prune: {self.reclaimed} bytes"


class NetworkAction(Event, frozen=True):
    """A network was made or removed ("create", "destroy"), a container put on or off it ("connect", "disconnect")."""

    action: str
    network_id: str
    name: str
    driver: str
    container_id: str = ""

    def sentence(self) -> str:
        return f"network {self.action} {self.network_id[:12]} ({self.name}) {self.container_id[:12]}".rstrip()


class ProgramRan(Event, frozen=True):
    """Another program was run; `command` can be pasted into a shell."""

    command: str
    seconds: float
    status: int

    def sentence(self) -> str:
        return f"{self.command}  (status {self.status}, {self.seconds * 1000:.0f} ms)"


class BuildStepStarted(Event, frozen=True):
    """One instruction of a Dockerfile is about to be carried out; number, of: counted from 1."""

    number: int
    of: int
    instruction: str
    stage: str = ""

    def sentence(self) -> str:
        return f"step {self.number}/{self.of} {self.instruction}"


class BuildStep(Event, frozen=True):
    """One instruction of a Dockerfile ended.

    number, of  counted from 1
    image_id    "" of an ARG before the first FROM
    cache       "hit", "miss" or "" where the cache has no say
    reason      on a miss, why
    stage       what the stage is called
    triggers    after a FROM, how many ONBUILD instructions of its image follow under the same number
    """

    number: int
    of: int
    instruction: str
    image_id: str
    cache: str
    seconds: float
    reason: str = ""
    stage: str = ""
    triggers: int = 0

    def sentence(self) -> str:
        cached = f" ({self.cache})" if self.cache else ""
        made = f" -> {self.image_id[7:19]}" if self.image_id else ""
        return f"step {self.number}/{self.of} {self.instruction}{made}{cached}"


class BuildContainer(Event, frozen=True):
    """The command of a build step starts in this temporary container."""

    container_id: str
    number: int

    def sentence(self) -> str:
        return f"step {self.number} runs in container {self.container_id[:12]}"


class BuildContainerRemoved(Event, frozen=True):
    """The container of a build step is not needed any more."""

    container_id: str
    number: int

    def sentence(self) -> str:
        return f"container {self.container_id[:12]} of step {self.number} removed"


class BuildOutput(Event, frozen=True):
    """A line or part of one that a build step printed; number says which step, stream "stdout" or "stderr"."""

    text: str
    number: int = 0
    stream: str = "stdout"

    def sentence(self) -> str:
        return self.text.rstrip("\n")


class BuildWarning(Event, frozen=True):
    """Something that a build does, or does not do, and that may not be what was meant."""

    text: str

    def sentence(self) -> str:
        return self.text


Emit = Callable[[Event], None]
"""How a mechanism reports. Called in the thread that does the work; must not raise."""


def ignore(event: Event) -> None:
    """The Emit of somebody who does not care."""
