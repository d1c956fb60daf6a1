"""The engine: the one place where store, runtime and network meet.

    Engine
    ├── images       ImageCollection: pull, push, import_, build, save, load, list, get, tag, remove, prune, history
    ├── containers   ContainerCollection: create, run, list, get, prune
    ├── volumes      VolumeCollection: create, list, get, remove, prune
    ├── networks     NetworkCollection: create, list, get, prune
    ├── executions   ExecutionCollection: further commands in running containers
    ├── login()      log in to a registry
    ├── df()         disk usage
    ├── prune_builds()   remove the build cache
    ├── recover()    clean up after killed operations
    ├── start_by_policy()   start containers as after a reboot
    ├── check()      examine this machine
    ├── fsck()       check the data root, and repair it
    ├── info()       the data of `docker info`
    ├── events       the stream of everything that this engine does
    └── event_log    the events of all engines on the data root

The façade wires the parts and delegates: it constructs a DataRoot and a Runtime, and passes them to the use cases.
An engine is a view of a data root, not a server: several processes may have engines on one data root. Locks on disk
serialize them; containers outlive all of them.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from pylab_container.containers import out_of_memory
from pylab_container.containers.execution import ExecutionCollection
from pylab_container.docker.event_log import EventLog
from pylab_container.engine.containers import ContainerCollection
from pylab_container.engine.event_stream import EventStream
from pylab_container.engine.images import ImageCollection
from pylab_container.engine.networks import NetworkCollection
from pylab_container.engine.parts import Parts
from pylab_container.engine.volumes import VolumeCollection
from pylab_container.errors import LabError, NotRoot
from pylab_container.maintenance.recovery import clear_abandoned
from pylab_container.runtime import Runtime
from pylab_container.store.data_root import DataRoot
from pylab_container.store.names import DEFAULT_ROOT
from pylab_container.version import __version__

if TYPE_CHECKING:
    from pylab_container.build.recipe import BuildOptions
    from pylab_container.docker.filters import Filters
    from pylab_container.images.image import Image
    from pylab_container.maintenance.check import Check
    from pylab_container.maintenance.fsck.report import Finding
    from pylab_container.maintenance.info import Info
    from pylab_container.maintenance.pruning import Pruned
    from pylab_container.maintenance.usage import DiskUsage
    from pylab_container.registry.settings import RegistrySettings


class Engine:
    """Images and containers in one data root.

    data_root            the directory of everything durable (store/data_root.py); default $LABCTR_ROOT, else
                         /var/lib/pylab-container. It is created if it does not exist.
    storage_driver       how layers are stored: "overlay2", "overlay" or "vfs"; default: as store/drivers.py chooses
    registry_mirrors     addresses to query before Docker's own registry: "http://10.0.0.5:5000"
    insecure_registries  hosts and networks where plain http is allowed: "10.0.0.5:5000", "10.1.0.0/16"; the
                         default of both is that of registry/settings.py

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
        """recover: call recover(). False leaves everything as it is, to be examined."""
        if os.geteuid() != 0:
            raise NotRoot("the engine needs root, to create mounts and namespaces", hint="sudo labctr …")
        path = Path(data_root or os.environ.get("LABCTR_ROOT") or DEFAULT_ROOT).absolute()
        self._mirrors, self._insecure = registry_mirrors, insecure_registries
        self.event_log = EventLog(path, lambda: out_of_memory.report_all(self.data, self.runtime))
        self.events = EventStream(self.event_log.append)
        self.data = DataRoot(path, storage_driver=storage_driver, emit=self.events.emit)
        self.runtime = Runtime(path, emit=self.events.emit)
        self.executions = ExecutionCollection(self.data, self.runtime)
        self.images = ImageCollection(self.data, registries=lambda: self.registries, build=self._build)
        self.parts = Parts(
            self.data,
            self.runtime,
            self.event_log,
            self.executions,
            obtain=self.images.obtain,
            command_line=self.command_line,
        )
        self.containers = ContainerCollection(self.parts)
        self.volumes = VolumeCollection(self.data)
        self.networks = NetworkCollection(self.parts)
        if recover:
            self.recover()

    @property
    def data_root(self) -> Path:
        """The directory of everything durable."""
        return self.data.path

    @cached_property
    def registries(self) -> RegistrySettings:
        """The settings for registries: mirrors, plain http, timeouts."""
        from pylab_container.registry.settings import RegistrySettings

        return RegistrySettings.read(mirrors=self._mirrors, insecure=self._insecure)

    def _build(self, source: str | Path | BinaryIO, options: BuildOptions) -> Image:
        from pylab_container.engine.builds import build

        return build(self.parts, source, options)

    def login(self, username: str, password: str, registry: str = "", *, save: bool = True) -> None:
        """Log in to a registry; "" is Docker's own.

        save  write the credentials to docker's config.json, where pull and push read them

        Raises Unauthorized, Unreachable.
        """
        from pylab_container.docker.credentials import Credentials, host_of
        from pylab_container.registry.login import login

        credentials = Credentials(username, password)
        login(self.registries, credentials, host_of(registry), save=save, emit=self.data.emit)

    def logout(self, registry: str = "") -> bool:
        """Delete the credentials for a registry; False if there were none."""
        from pylab_container.docker.credentials import host_of
        from pylab_container.registry.login import logout

        return logout(host_of(registry), emit=self.data.emit)

    def info(self) -> Info:
        """Describe this engine and its data root: `docker info`."""
        from pylab_container.maintenance.info import describe

        return describe(self.data, self.runtime, server_version=__version__)

    def df(self) -> DiskUsage:
        """Measure the disk usage: `docker system df`."""
        from pylab_container.maintenance import usage

        return usage.disk_usage(self.data, self.runtime)

    def prune_builds(self, *, all: bool = False, filters: Filters | None = None) -> Pruned:
        """Remove the build cache, as far as maintenance/pruning.py selects it.

        all      also the steps of images with names; the images themselves are kept
        filters  until ("24h", or a moment)

        Raises InvalidInput for an unknown filter.
        """
        from pylab_container.maintenance import pruning

        return pruning.prune_builds(self.data, filters or {}, all=all)

    def recover(self) -> None:
        """Clean up after killed operations (maintenance/recovery.py)."""
        clear_abandoned(self.data, self.runtime)

    def start_by_policy(self) -> list[LabError]:
        """Start the containers whose restart policy requires it, as after a reboot. Return the errors."""
        from pylab_container.maintenance import boot

        return boot.start_by_policy(self.data, self.runtime)

    def command_line(self, *words: str) -> str:
        """Return the command line of labctr for this data root; it does not depend on $LABCTR_ROOT."""
        root = () if self.data_root == Path(DEFAULT_ROOT) else ("--root", str(self.data_root))
        return shlex.join(["labctr", *root, *words])

    def check(self) -> list[Check]:
        """Examine what this machine provides and lacks (maintenance/check.py)."""
        from pylab_container.maintenance.check import check

        return check(self.data_root)

    def fsck(self, *, repair: bool = False, deep: bool = False) -> list[Finding]:
        """Check the data root (maintenance/fsck/).

        repair  repair what can be repaired without a loss of data
        deep    also rebuild every layer's tar and compare its digest
        """
        from pylab_container.maintenance.fsck import check

        return check(self.data, self.runtime, repair=repair, deep=deep)

    def __repr__(self) -> str:
        return f"<Engine {self.data_root}>"
