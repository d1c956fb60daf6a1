"""What an operation can say about itself, as values.

Progress bars, the notebook's "what just happened" table, `labctr events` and
`--explain` are all readers of one stream of these. A mechanism reports by calling an
`Emit`; it never prints and does not know who listens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """One thing that happened. `sentence()` tells it to a person in one line."""

    def sentence(self) -> str:
        return type(self).__name__


@dataclass(frozen=True)
class Progress(Event):
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


@dataclass(frozen=True)
class LayerRegistered(Event):
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


@dataclass(frozen=True)
class LayerRemoved(Event):
    """Nobody needed the layer any more and its directory is gone."""

    chain_id: str
    cache_id: str
    driver: str = "overlay2"

    def sentence(self) -> str:
        return f"layer {self.chain_id[7:19]} removed with {self.driver}/{self.cache_id[:12]}"


@dataclass(frozen=True)
class OverlayMounted(Event):
    """mount(2) joined the layers; `options` is the string that the kernel got."""

    cache_id: str
    target: str
    options: str

    def sentence(self) -> str:
        return f"mount -t overlay -o {self.options} overlay {self.target}"


@dataclass(frozen=True)
class OverlayUnmounted(Event):
    """The merged view is gone; the layers are as they were."""

    cache_id: str
    target: str

    def sentence(self) -> str:
        return f"umount {self.target}"


@dataclass(frozen=True)
class ImageChanged(Event):
    """An image was imported, committed, tagged, untagged or deleted (`action`)."""

    action: str
    image_id: str
    reference: str = ""

    def sentence(self) -> str:
        name = f" as {self.reference}" if self.reference else ""
        return f"image {self.action} {self.image_id[7:19]}{name}"


@dataclass(frozen=True)
class ContainerChanged(Event):
    """A container was created, started, stopped, removed … (`action`).

    detail  "status 3" of one that exited, "signal 9" of one that was killed
    image   the name of its image
    labels  its own
    """

    action: str
    container_id: str
    name: str
    detail: str = ""
    image: str = ""
    labels: tuple[tuple[str, str], ...] = ()

    def sentence(self) -> str:
        return f"container {self.action} {self.container_id[:12]} ({self.name}) {self.detail}".rstrip()


@dataclass(frozen=True)
class NetworkChanged(Event):
    """The kernel's network was changed; `command` is the equivalent ip or nft command."""

    command: str

    def sentence(self) -> str:
        return self.command


@dataclass(frozen=True)
class VolumeAction(Event):
    """A volume was made or removed ("create", "destroy")."""

    action: str
    name: str
    driver: str = "local"

    def sentence(self) -> str:
        return f"volume {self.action} {self.name}"


@dataclass(frozen=True)
class NetworkAction(Event):
    """A network was made or removed ("create", "destroy"), a container put on or off it ("connect", "disconnect")."""

    action: str
    network_id: str
    name: str
    driver: str
    container_id: str = ""

    def sentence(self) -> str:
        return f"network {self.action} {self.network_id[:12]} ({self.name}) {self.container_id[:12]}".rstrip()


@dataclass(frozen=True)
class ProgramRan(Event):
    """Another program was run; `command` can be pasted into a shell."""

    command: str
    seconds: float
    status: int

    def sentence(self) -> str:
        return f"{self.command}  (status {self.status}, {self.seconds * 1000:.0f} ms)"


@dataclass(frozen=True)
class BuildStepStarted(Event):
    """One instruction of a Dockerfile is about to be carried out; number, of: counted from 1."""

    number: int
    of: int
    instruction: str
    stage: str = ""

    def sentence(self) -> str:
        return f"step {self.number}/{self.of} {self.instruction}"


@dataclass(frozen=True)
class BuildStep(Event):
    """One instruction of a Dockerfile ended.

    number, of  counted from 1
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
        return f"step {self.number}/{self.of} {self.instruction} -> {self.image_id[7:19]}{cached}"


@dataclass(frozen=True)
class BuildContainer(Event):
    """The command of a build step starts in this temporary container."""

    container_id: str
    number: int

    def sentence(self) -> str:
        return f"step {self.number} runs in container {self.container_id[:12]}"


@dataclass(frozen=True)
class BuildOutput(Event):
    """A line or part of one that a build step printed; number says which step."""

    text: str
    number: int = 0

    def sentence(self) -> str:
        return self.text.rstrip("\n")


@dataclass(frozen=True)
class BuildWarning(Event):
    """Something that a build does, or does not do, and that may not be what was meant."""

    text: str

    def sentence(self) -> str:
        return self.text


Emit = Callable[[Event], None]
"""How a mechanism reports. Called in the thread that does the work; must not raise."""


def ignore(event: Event) -> None:
    """The Emit of somebody who does not care."""
