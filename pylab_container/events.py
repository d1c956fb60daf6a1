"""Typed events: each operation reports its steps as values of these classes.

Progress bars, the notebook's "what just happened" table, `labctr events` and `--explain` read one stream of them.
A function of the library reports by calling an `Emit`. It never prints, and it does not depend on its listeners.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import unquote

from msgspec import Struct

from pylab_container.errors import CorruptStore


class Event(Struct, frozen=True):
    """Base of all events.

    Events are immutable, so that listeners in several threads can share them.
    """

    def sentence(self) -> str:
        """Return a description of one line, for a person."""
        return type(self).__name__


class Progress(Event, frozen=True):
    """A part of a long operation is complete.

    activity  "extracting", "hashing", …
    done      bytes or items so far
    total     bytes or items in all, None if unknown
    """

    activity: str
    done: int
    total: int | None = None

    def sentence(self) -> str:
        total = f" of {self.total}" if self.total else ""
        return f"{self.activity}: {self.done}{total}"


class LayerRegistered(Event, frozen=True):
    """A layer is complete on disk and registered under its chain id. size: bytes of its files."""

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
    """An unreferenced layer and its directory were removed."""

    chain_id: str
    cache_id: str
    driver: str = "overlay2"

    def sentence(self) -> str:
        return f"layer {self.chain_id[7:19]} removed with {self.driver}/{self.cache_id[:12]}"


class StoreDamaged(Event, frozen=True):
    """A damaged file of the data root was skipped, and its object was not listed or removed."""

    path: str
    message: str

    @classmethod
    def of(cls, error: CorruptStore) -> StoreDamaged:
        """Return the event for an error that does not abort the operation."""
        return cls(error.path, error.message)

    def sentence(self) -> str:
        return f"{self.message}; labctr system fsck says what to do"


class OverlayMounted(Event, frozen=True):
    """The merged view of the layers was mounted at target.

    options  the mount options passed to the kernel
    """

    cache_id: str
    target: str
    options: str

    def sentence(self) -> str:
        return f"mount -t overlay -o {self.options} overlay {self.target}"


class OverlayUnmounted(Event, frozen=True):
    """The merged view was unmounted. The layers are unchanged."""

    cache_id: str
    target: str

    def sentence(self) -> str:
        return f"umount {self.target}"


class ImageChanged(Event, frozen=True):
    """An image was imported, committed, tagged, untagged or deleted (`action`).

    The actions "named" and "unnamed" report the names that an archive gave while it was loaded. Docker has no event
    for them.
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

    detail      "status 3" after an exit, "signal 9" after a kill
    image       name of its image
    labels      labels of the container
    attributes  further attributes of Docker's event for this action: execID, oldName …
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
    """The kernel's network configuration was changed.

    command  the equivalent ip or nft command
    """

    command: str

    def sentence(self) -> str:
        return self.command


class LayerTransfer(Event, frozen=True):
    """Progress of one layer of a pull or push, in dockerd's words (docker/progress.py).

    status          "Downloading", "Pull complete", "Layer already exists", …
    layer           first twelve digits of its digest (pull) or diff id (push)
    current, total  bytes; both 0 for a status without a count
    """

    status: str
    layer: str
    current: int = 0
    total: int = 0

    def sentence(self) -> str:
        amount = f" {self.current} of {self.total}" if self.total else ""
        return f"{self.layer}: {self.status}{amount}"


class TransferMessage(Event, frozen=True):
    """A message of a pull or push that is not about one layer: "Digest: sha256:…".

    name  a tag, or ""
    """

    status: str
    name: str = ""

    def sentence(self) -> str:
        return f"{self.name}: {self.status}" if self.name else self.status


class PushResult(Event, frozen=True):
    """A registry stored an image under a tag. digest, size: of its manifest, size in bytes."""

    tag: str
    digest: str
    size: int

    def sentence(self) -> str:
        return f"{self.tag} pushed as {self.digest}"


class RegistryRequest(Event, frozen=True):
    """A request to a registry ended.

    status  HTTP status of the response, 0 without one
    sent    bytes of the request's body
    bytes   length of the response's body, from its Content-Length header
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
        result = f"{self.host}: {self.status}, {amount}, {self.seconds * 1000:.0f} ms"
        return f"{self.method} {unquote(self.path)}  ({result})"


class VolumeAction(Event, frozen=True):
    """A volume was created or removed. action: "create" or "destroy"."""

    action: str
    name: str
    driver: str = "local"

    def sentence(self) -> str:
        return f"volume {self.action} {self.name}"


class VolumeMounted(Event, frozen=True):
    """A volume was mounted for a container that starts."""

    name: str
    container_id: str
    destination: str
    writable: bool
    propagation: str = ""
    driver: str = "local"

    def sentence(self) -> str:
        return f"volume {self.name} mounted at {self.destination} of {self.container_id[:12]}"


class VolumeUnmounted(Event, frozen=True):
    """A volume was unmounted after its container exited."""

    name: str
    container_id: str
    driver: str = "local"

    def sentence(self) -> str:
        return f"volume {self.name} unmounted of {self.container_id[:12]}"


class PruneDone(Event, frozen=True):
    """The unused objects of one kind were removed.

    kind       "container", "image", "network", "volume" or "builder"
    reclaimed  freed bytes
    """

    kind: str
    reclaimed: int

    def sentence(self) -> str:
        return f"{self.kind} prune: {self.reclaimed} bytes"


class NetworkAction(Event, frozen=True):
    """A network was created or removed, or a container was connected or disconnected.

    action  "create", "destroy", "connect" or "disconnect"
    """

    action: str
    network_id: str
    name: str
    driver: str
    container_id: str = ""

    def sentence(self) -> str:
        return f"network {self.action} {self.network_id[:12]} ({self.name}) {self.container_id[:12]}".rstrip()


class ProgramRan(Event, frozen=True):
    """Another program exited. command: its command line, quoted for a shell."""

    command: str
    seconds: float
    status: int

    def sentence(self) -> str:
        return f"{self.command}  (status {self.status}, {self.seconds * 1000:.0f} ms)"


class BuildStepStarted(Event, frozen=True):
    """An instruction of a Dockerfile starts. It is step `number` of `of`, counted from 1."""

    number: int
    of: int
    instruction: str
    stage: str = ""

    def sentence(self) -> str:
        return f"step {self.number}/{self.of} {self.instruction}"


class BuildStep(Event, frozen=True):
    """An instruction of a Dockerfile ended.

    number, of  the step and the number of steps, counted from 1
    image_id    image after the step; "" after an ARG before the first FROM
    cache       "hit" or "miss"; "" for a step that the cache does not apply to
    reason      reason for a miss
    stage       name of the stage
    triggers    after a FROM: number of its image's ONBUILD instructions, which follow under the same number
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
        image = f" -> {self.image_id[7:19]}" if self.image_id else ""
        return f"step {self.number}/{self.of} {self.instruction}{image}{cached}"


class BuildContainer(Event, frozen=True):
    """The command of a build step starts in a temporary container."""

    container_id: str
    number: int

    def sentence(self) -> str:
        return f"step {self.number} runs in container {self.container_id[:12]}"


class BuildContainerRemoved(Event, frozen=True):
    """The temporary container of a build step was removed."""

    container_id: str
    number: int

    def sentence(self) -> str:
        return f"container {self.container_id[:12]} of step {self.number} removed"


class BuildOutput(Event, frozen=True):
    """Output of build step `number`: a line or a part of one. stream: "stdout" or "stderr"."""

    text: str
    number: int = 0
    stream: str = "stdout"

    def sentence(self) -> str:
        return self.text.rstrip("\n")


class BuildWarning(Event, frozen=True):
    """The build does something that the author of the Dockerfile may not have intended."""

    text: str

    def sentence(self) -> str:
        return self.text


Emit = Callable[[Event], None]
"""Callback that receives events. It is called in the thread that does the work, and must not raise."""


def ignore(event: Event) -> None:
    """Discard the event: the default Emit."""
