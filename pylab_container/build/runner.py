"""The interface between RUN and containers; build/ imports no container runtime.

    create() → run() → (the builder reads the writable layer) → remove()

engine/builds.py implements it with containers/.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from pylab_container.oci.container_config import ContainerConfig
from pylab_container.oci.host_config import HostConfig
from pylab_container.oci.ids import ContainerId
from pylab_container.oci.mounts import MountPoint

Output = Callable[[str, bytes], None]
"""Receives a chunk of output: ("stdout" or "stderr", bytes)."""


class RunRequest(Struct, frozen=True):
    """One command to run in a temporary container.

    container_id  claimed by the build's lease
    image_id      the image that the command runs in; "" is the empty image, FROM scratch
    config        of the container, with the command
    network       "bridge", "none", "host", "container:NAME", or a network's name
    extra_hosts   entries for /etc/hosts, "name:address"
    limits        a HostConfig of which only the limits are set: memory, shm_size …
    mounts        beside the volumes that config declares
    """

    container_id: ContainerId
    image_id: str
    config: ContainerConfig
    network: str
    extra_hosts: Sequence[str]
    limits: HostConfig
    mounts: Sequence[MountPoint]


class Runner(Protocol):
    """Runs the commands of a build."""

    def find_network(self, name: str) -> str:
        """Return the name of a user's network, by its name or id. Raises NotFound."""

    def secrets_directory(self, container_id: ContainerId) -> Path:
        """Return the path of a directory in memory for secrets; the caller creates and removes it."""

    def create(self, request: RunRequest) -> None:
        """Create the container, with a writable layer on top of the image.

        Raises InvalidInput, RuntimeFailed.
        """

    def run(self, container_id: ContainerId, output: Output, is_cancelled: Callable[[], bool]) -> int:
        """Run the container's command and pass its output on; returns the exit status.

        is_cancelled  called once after the start; if it returns True, the command is killed. This closes a race: a
                      kill() that comes before the start has no effect

        Raises RuntimeFailed if the command cannot be started.
        """

    def kill(self, container_id: ContainerId) -> None:
        """Kill a running container; called by another thread than run(). Raises LabError if it does not run."""

    def remove(self, container_id: ContainerId) -> None:
        """Remove the container and its unnamed volumes, even while it runs."""

    def discard(self, container_id: ContainerId) -> None:
        """Remove whatever a failed create(), or a crashed process, has left of a container. Idempotent."""
