"""The engine: the one place where store, runtime and network meet.

    Engine
    ├── images       ImageCollection: pull, push, import_, build, save, load, list, get, tag, remove, prune, history
    ├── containers   ContainerCollection: create, run, list, get, prune
    ├── volumes      VolumeCollection: list, prune
    ├── executions   ExecutionCollection: the commands run in containers besides
    ├── login()      who we are at a registry
    ├── df()         what takes how much space
    ├── prune_builds()   removes the build cache
    ├── check()      what this machine can do
    ├── fsck()       what is wrong with the data root, and its repair
    ├── info()       what the tutorial looks at in `docker info`
    ├── events       the stream of everything that this engine does
    └── event_log    what all engines on the data root did to containers, images, volumes and networks

An engine is a view of a data root, not a server: many processes may each have one on the
same root. Locks on disk keep them apart; containers outlive all of them.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pylab_container.containers import out_of_memory
from pylab_container.containers.execution import ExecutionCollection
from pylab_container.docker.event_log import EventLog
from pylab_container.engine.containers import ContainerCollection
from pylab_container.engine.event_stream import EventStream
from pylab_container.engine.images import ImageCollection
from pylab_container.engine.networks import NetworkCollection
from pylab_container.engine.volumes import VolumeCollection
from pylab_container.errors import ContainerNotFound, NotRoot
from pylab_container.maintenance.recovery import clear_abandoned
from pylab_container.runtime import Runtime
from pylab_container.store.data_root import DataRoot
from pylab_container.store.names import DEFAULT_ROOT

if TYPE_CHECKING:
    from pylab_container.docker.filters import Filters
    from pylab_container.maintenance.check import Check
    from pylab_container.maintenance.fsck.report import Finding
    from pylab_container.maintenance.info import Info
    from pylab_container.maintenance.pruning import Pruned
    from pylab_container.maintenance.usage import DiskUsage
    from pylab_container.registry.settings import RegistrySettings
    from pylab_container.store.container_store import ContainerRecord


class Engine:
    """Images and containers in one data root.

    data_root            the directory of everything durable (store/data_root.py); default $LABCTR_ROOT, else
                         /var/lib/pylab-container. It is created if it does not exist.
    storage_driver       how layers are kept: "overlay2", "overlay" or "vfs"; default as store/drivers.py tells
    registry_mirrors     addresses that are asked before Docker's own registry: "http://10.0.0.5:5000"
    insecure_registries  hosts and networks where plain http will do: "10.0.0.5:5000", "10.1.0.0/16"; both by
                         default as registry/settings.py reads them

    Raises NotRoot, and InvalidInput or Conflict for the driver.
    """

    def __init__(
        self,
        data_root: str | Path | None = None,
        *,
        storage_driver: str | None = None,
        registry_mirrors: Sequence[str] | None = None,
        insecure_registries: Sequence[str] | None = None,
        recover: bool = True,
    ) -> None:
        """recover: clear what killed operations left. Only who wants to see that first says no."""
        if os.geteuid() != 0:
            raise NotRoot(
                "the engine needs root: mounts and namespaces are the kernel's business", hint="sudo labctr …"
            )
        path = Path(data_root or os.environ.get("LABCTR_ROOT") or DEFAULT_ROOT).absolute()
        self._mirrors, self._insecure = registry_mirrors, insecure_registries
        self.event_log = EventLog(path, lambda: out_of_memory.report_all(self.data, self.runtime))
        self.events = EventStream(self.event_log.append)
        self.data = DataRoot(path, storage_driver=storage_driver, emit=self.events.emit)
        self.runtime = Runtime(path, emit=self.events.emit)
        self.images = ImageCollection(self)
        self.containers = ContainerCollection(self)
        self.executions = ExecutionCollection(self.data, self.runtime)
        self.volumes = VolumeCollection(self)
        self.networks = NetworkCollection(self)
        if recover:
            clear_abandoned(self)

    @property
    def data_root(self) -> Path:
        """The directory of everything durable."""
        return self.data.path

    @cached_property
    def registries(self) -> RegistrySettings:
        """Which registries are asked, by which way, and how long."""
        from pylab_container.registry.settings import RegistrySettings

        return RegistrySettings.read(mirrors=self._mirrors, insecure=self._insecure)

    def login(self, username: str, password: str, registry: str = "", *, save: bool = True) -> None:
        """Prove to a registry who we are; "" is Docker's own.

        save  note it in docker's config.json, so that pull and push know it

        Raises Unauthorized, Unreachable.
        """
        from pylab_container.docker.credentials import Credentials, host_of
        from pylab_container.registry.login import login

        credentials = Credentials(username, password)
        login(self.registries, credentials, host_of(registry), save=save, emit=self.data.emit)

    def logout(self, registry: str = "") -> bool:
        """Forget who we are at a registry; False where that was not known."""
        from pylab_container.docker.credentials import host_of
        from pylab_container.registry.login import logout

        return logout(host_of(registry), emit=self.data.emit)

    def info(self) -> Info:
        """What this engine is and has: `docker info`."""
        from pylab_container import __version__
        from pylab_container.maintenance.info import describe

        return describe(self.data, self._records(), server_version=__version__)

    def df(self) -> DiskUsage:
        """What takes how much space: `docker system df`."""
        from pylab_container.maintenance import usage

        volumes = [(volume, len(self.volumes.users(volume))) for volume in self.volumes.list()]
        return usage.disk_usage(self.data, self._records(), volumes)

    def _records(self) -> list[ContainerRecord]:
        """The settled records of all containers."""
        records = []
        for container in self.containers.list(all=True):
            with contextlib.suppress(ContainerNotFound):
                records.append(container.record)
        return records

    def prune_builds(self, *, all: bool = False, filters: Filters | None = None) -> Pruned:
        """Remove the build cache; maintenance/pruning.py tells what of it.

        all      also the steps on the way to images with names, which stay whole
        filters  until ("24h", or a moment)

        Raises InvalidInput for a filter that there is not.
        """
        from pylab_container.maintenance import pruning

        return pruning.prune_builds(self.data, filters or {}, all=all)

    def command_line(self, *words: str) -> str:
        """What to type so that labctr does this on the same data root; $LABCTR_ROOT need not be set there."""
        root = () if self.data_root == Path(DEFAULT_ROOT) else ("--root", str(self.data_root))
        return shlex.join(["labctr", *root, *words])

    def check(self) -> list[Check]:
        """What this machine can do, and how to mend what it cannot (maintenance/check.py)."""
        from pylab_container.maintenance.check import check

        return check(self.data_root)

    def fsck(self, *, repair: bool = False, deep: bool = False) -> list[Finding]:
        """What is wrong with the data root; maintenance/fsck/ says what is looked at.

        repair  mend it where nothing is lost by that
        deep    also rebuild every layer's tar and compare its digest
        """
        from pylab_container.maintenance.fsck import check

        return check(self, repair=repair, deep=deep)

    def __repr__(self) -> str:
        return f"<Engine {self.data_root}>"
