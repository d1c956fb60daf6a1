"""The parts of one engine that its faces share, so that no face needs the façade itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from pylab_container.containers.execution import ExecutionCollection
from pylab_container.docker.event_log import EventLog
from pylab_container.runtime import Runtime
from pylab_container.store.data_root import DataRoot

if TYPE_CHECKING:
    from pylab_container.images.image import Image
    from pylab_container.images.obtain import PullPolicy


class Obtain(Protocol):
    """Returns the image with a name, pulled if it is missing: ImageCollection.obtain()."""

    def __call__(
        self,
        name: str,
        *,
        pull: PullPolicy = "missing",
        platform: str = "",
        auth_config: Mapping[str, str] | None = None,
    ) -> Image:
        """Raises ImageNotFound, Unauthorized, Unreachable."""


class Parts(Struct, frozen=True):
    """What an engine wires.

    data, runtime  what is on disk, and what runs
    event_log      the events of all engines on the data root
    executions     the commands that this process runs in containers
    obtain         pulls a missing image
    command_line   returns labctr's command line for the data root, from its words; for hints
    """

    data: DataRoot
    runtime: Runtime
    event_log: EventLog
    executions: ExecutionCollection
    obtain: Obtain
    command_line: Callable[..., str]
