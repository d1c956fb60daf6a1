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
import errno
import fcntl
import hashlib
import os
import secrets
import shlex
import threading
import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pylab_container.containers import lifetime
from pylab_container.containers.execution import ExecutionCollection
from pylab_container.docker.event_log import EventLog
from pylab_container.engine.containers import ContainerCollection
from pylab_container.engine.event_stream import EventStream
from pylab_container.engine.images import ImageCollection
from pylab_container.engine.networks import NetworkCollection
from pylab_container.engine.volumes import VolumeCollection
from pylab_container.errors import InvalidInput, NotRoot
from pylab_container.host import reserve
from pylab_container.host.extras import require
from pylab_container.host.files import locked
from pylab_container.host.removal import remove_below
from pylab_container.maintenance.recovery import clear_abandoned
from pylab_container.oci.ids import EntryName
from pylab_container.runtime.conmon import Conmon
from pylab_container.runtime.runc import Runc
from pylab_container.store.container_store import ContainerStore
from pylab_container.store.distribution_store import DistributionStore
from pylab_container.store.drivers import open_driver
from pylab_container.store.image_store import ImageStore
from pylab_container.store.layer_store import LayerStore
from pylab_container.store.network_store import NetworkStore
from pylab_container.text.timestamps import rfc3339

if TYPE_CHECKING:
    from pylab_container.docker.filters import Filters
    from pylab_container.maintenance.check import Check
    from pylab_container.maintenance.fsck.report import Finding
    from pylab_container.maintenance.info import Info
    from pylab_container.maintenance.pruning import Pruned
    from pylab_container.maintenance.usage import DiskUsage
    from pylab_container.registry.settings import RegistrySettings
    from pylab_container.runtime.network import Bridge

DEFAULT_ROOT = "/var/lib/pylab-container"
RUN_ROOT = Path("/run/pylab-container")


class Engine:
    """Images and containers in one data root.

    data_root       where everything durable lies; default $LABCTR_ROOT, else
                    /var/lib/pylab-container. It is created if missing. The layout is Docker's:

        <data root>/
        ├── image/<driver>/   imagedb, layerdb, repositories.json   (store/image_store.py, store/layer_store.py)
        ├── <driver>/         one directory a layer                 (store/overlay2.py, overlay.py, vfs.py)
        ├── containers/       one directory a container             (store/container_store.py)
        ├── volumes/          data that outlives containers
        ├── events.log        what happened, for who looks                 (event_log.py)
        ├── networks/         one file a network of a user         (store/network_store.py)
        ├── .reserve/         what removals need on a full disk            (host/reserve.py)
        └── locks/           what processes hold between them; Docker has one process, and none

    What only makes sense until the next reboot (bundles, pids, sockets) is in
    /run/pylab-container/<digest of the data root's path>/.

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
        self.data_root = Path(data_root or os.environ.get("LABCTR_ROOT") or DEFAULT_ROOT).absolute()
        if os.geteuid() != 0:
            raise NotRoot(
                "the engine needs root: mounts and namespaces are the kernel's business", hint="sudo labctr …"
            )
        self._mirrors, self._insecure = registry_mirrors, insecure_registries
        self.data_root.mkdir(parents=True, exist_ok=True, mode=0o710)
        reserve.fill(self.data_root)
        self.run_root = RUN_ROOT / hashlib.sha256(os.fsencode(self.data_root)).hexdigest()[:12]
        self.event_log = EventLog(self.data_root, lambda: lifetime.report_out_of_memory(self))
        self.events = EventStream(self.event_log.append)
        emit = self.events.emit
        self.driver = open_driver(self.data_root, storage_driver, emit=emit)
        image_root, self.locks = self.data_root / "image" / self.driver.name, self.data_root / "locks"
        self.image_store = ImageStore(image_root, self.locks, emit=emit)
        self.distribution = DistributionStore(image_root / "distribution", self.locks)
        self.layers = LayerStore(image_root / "layerdb", self.locks, self.driver, emit=emit)
        self.records = ContainerStore(self.data_root / "containers", self.locks, driver=self.driver.name, emit=emit)
        self.network_store = NetworkStore(self.data_root / "networks", self.locks, emit=emit)
        self.runc = Runc(self.run_root / "runc", emit=emit)
        self.conmon = Conmon(self.runc, emit=emit)
        self.images = ImageCollection(self)
        self.containers = ContainerCollection(self)
        self.executions = ExecutionCollection(self)
        self.volumes = VolumeCollection(self)
        self.networks = NetworkCollection(self)
        if recover:
            clear_abandoned(self)

    @cached_property
    def bridge(self) -> Bridge:
        """The network that containers share; made when the first one needs it."""
        from pylab_container.runtime.network import Bridge

        return Bridge(run_root=RUN_ROOT, emit=self.events.emit)

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
        from pylab_container.docker.credentials import host_of
        from pylab_container.registry import login

        login.login(self, username, password, host_of(registry), save=save)

    def logout(self, registry: str = "") -> bool:
        """Forget who we are at a registry; False where that was not known."""
        from pylab_container.docker.credentials import host_of
        from pylab_container.registry import login

        return login.logout(self, host_of(registry))

    def prepare_network(self) -> None:
        """Begin to make `bridge` in the background: importing pyroute2 takes as long as runc takes to create.

        Raises MissingExtra without the libraries for networks.
        """
        require("run")
        threading.Thread(target=lambda: self.bridge, daemon=True).start()

    def info(self) -> Info:
        """What this engine is and has: `docker info`."""
        from pylab_container.maintenance.info import describe

        return describe(self)

    def df(self) -> DiskUsage:
        """What takes how much space: `docker system df`."""
        from pylab_container.maintenance import usage

        return usage.disk_usage(self)

    def prune_builds(self, *, all: bool = False, filters: Filters | None = None) -> Pruned:
        """Remove the build cache; maintenance/pruning.py tells what of it.

        all      also the steps on the way to images with names, which stay whole
        filters  until ("24h", or a moment)

        Raises InvalidInput for a filter that there is not.
        """
        from pylab_container.maintenance import pruning

        return pruning.prune_builds(self, filters or {}, all=all)

    def command_line(self, *words: str) -> str:
        """What to type so that labctr does this on the same data root; $LABCTR_ROOT need not be set there."""
        root = () if self.data_root == Path(DEFAULT_ROOT) else ("--root", str(self.data_root))
        return shlex.join(["labctr", *root, *words])

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """A directory for what is only needed during one operation, on the data root's own disk.

        It is locked while the block runs: one without a lock is a killed operation's. If that disk is full or
        read-only, it is the machine's directory for temporary files (tempfile.gettempdir()): to save an image and
        remove it must work then.
        """
        try:
            directory, lock = self._locked_scratch()
        except OSError as error:
            if not (reserve.is_full(error) or error.errno == errno.EROFS):
                raise
            import tempfile  # late, as every command would pay its 10 ms

            with tempfile.TemporaryDirectory(prefix="labctr-") as elsewhere:
                yield Path(elsewhere)
            return
        try:
            yield directory
        finally:
            with contextlib.suppress(FileNotFoundError):
                remove_below(directory.parent, EntryName(directory.name))
            os.close(lock)

    def _locked_scratch(self) -> tuple[Path, int]:
        top = self.data_root / "tmp"
        top.mkdir(exist_ok=True, mode=0o700)
        with self.scratch_lock():
            directory = top / secrets.token_hex(8)
            directory.mkdir(mode=0o700)
            lock = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
            fcntl.flock(lock, fcntl.LOCK_EX)
        return directory, lock

    def spool_directory(self) -> Path:
        """Where files without a name are made: on the data root's disk, or elsewhere if that cannot be written to."""
        top = self.data_root / "tmp"
        with contextlib.suppress(OSError):
            top.mkdir(exist_ok=True, mode=0o700)
        if os.access(top, os.W_OK):
            return top
        import tempfile

        return Path(tempfile.gettempdir())

    def secrets_directory(self, container_id: str) -> Path:
        """Where the secrets of a build step lie while its container runs: in memory, like all of /run."""
        return self.run_root / "secrets" / container_id

    def scratch_lock(self) -> contextlib.AbstractContextManager[None]:
        """Held while a scratch directory gets its own lock."""
        return locked(self.locks / "scratch")

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

    def now(self) -> str:
        """The time that goes into what is made, RFC 3339; SOURCE_DATE_EPOCH (seconds) overrides the clock."""
        epoch = self.source_date_epoch
        return rfc3339(time.time_ns() if epoch is None else epoch)

    @property
    def source_date_epoch(self) -> int | None:
        """SOURCE_DATE_EPOCH in nanoseconds, None where it is not set: nothing that is made tells a later time.

        Source: reproducible-builds.org, "SOURCE_DATE_EPOCH specification". Raises InvalidInput.
        """
        epoch = os.environ.get("SOURCE_DATE_EPOCH")
        if not epoch:
            return None
        if not (epoch.isascii() and epoch.isdigit() and len(epoch) < 12):
            raise InvalidInput(
                f'SOURCE_DATE_EPOCH="{epoch}" is no time', hint="it is a number of seconds since 1970: date +%s"
            )
        return int(epoch) * 10**9

    def __repr__(self) -> str:
        return f"<Engine {self.data_root}>"
