"""Everything durable of an engine: one directory, its stores, its locks and its clock.

    <data root>/
    ├── image/<driver>/   imagedb, layerdb, repositories.json   (image_store.py, layer_store.py)
    ├── <driver>/         one directory for each layer          (overlay2.py, overlay.py, vfs.py)
    ├── containers/       one directory for each container      (container_store.py)
    ├── volumes/          data that outlives containers         (volume_store.py)
    ├── networks/         one file for each user network        (network_store.py)
    ├── events.log        the events of all engines             (docker/event_log.py)
    ├── tmp/              scratch directories, each locked while it is in use
    ├── .reserve/         blocks that removals need on a full disk            (host/reserve.py)
    └── locks/            locks between processes; Docker has one process and needs none

Use cases take a DataRoot, never the façade, so images and builds can be used and tested without a runtime.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from pylab_container.errors import InvalidInput
from pylab_container.events import Emit
from pylab_container.host import reserve
from pylab_container.host.files import locked
from pylab_container.host.random_ids import random_hex
from pylab_container.host.removal import remove_below
from pylab_container.oci.ids import EntryName
from pylab_container.store.container_store import ContainerStore
from pylab_container.store.distribution_store import DistributionStore
from pylab_container.store.drivers import open_driver
from pylab_container.store.image_store import ImageStore
from pylab_container.store.layer_store import LayerStore
from pylab_container.store.network_store import NetworkStore
from pylab_container.store.volume_store import VolumeStore
from pylab_container.text.timestamps import rfc3339


class DataRoot:
    """The stores of one data root, opened by one process; others may have the same root open.

    path     the directory; created if it does not exist
    emit     receives the events of all stores
    driver, images, layers, records, networks, volumes, distribution
             the stores, each the only writer of its directory
    locks    the directory of the lock files
    """

    def __init__(self, path: Path, *, storage_driver: str | None = None, emit: Emit) -> None:
        """storage_driver is as for store/drivers.py. Raises InvalidInput, Conflict."""
        # Mode 0710 as in moby: with 0755 a user of the machine could run a set-uid program in a layer's directory
        # (CVE-2021-41091).
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o710)
        except (FileExistsError, NotADirectoryError, FileNotFoundError, PermissionError) as error:
            message = f"cannot create the data root {path}: {(error.strerror or '').lower()}"
            raise InvalidInput(message, hint="choose a directory with --root or $LABCTR_ROOT") from error
        # Before the stores use the room: these blocks are for removals on a full disk.
        reserve.fill(path)
        self.path = path
        self.emit = emit
        self.locks = path / "locks"
        self.driver = open_driver(path, storage_driver, emit=emit)
        image_root = path / "image" / self.driver.name
        self.images = ImageStore(image_root, self.locks, emit=emit)
        self.distribution = DistributionStore(image_root / "distribution", self.locks)
        self.layers = LayerStore(image_root / "layerdb", self.locks, self.driver, emit=emit)
        self.records = ContainerStore(path / "containers", self.locks, driver=self.driver.name, emit=emit)
        self.networks = NetworkStore(path / "networks", self.locks, emit=emit)
        self.volumes = VolumeStore(path / "volumes", self.locks, emit=emit)

    # -- locks -----------------------------------------------------------------------------------

    def images_lock(self) -> contextlib.AbstractContextManager[None]:
        """Hold this while an image is added or removed, so that no image loses a layer."""
        # Race: a removal lists the layers that images need and deletes the others (store/transactions.py). An image
        # that another process adds in between would refer to a deleted layer.
        return locked(self.locks / "images")

    def scratch_lock(self) -> contextlib.AbstractContextManager[None]:
        """Hold this while a scratch directory is created and locked."""
        # Race: between mkdir(2) and flock(2) the directory looks like an orphan, and recovery would delete it
        # (maintenance/recovery.py).
        return locked(self.locks / "scratch")

    # -- temporary files -------------------------------------------------------------------------

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """Yield a directory on the data root's file system; it is deleted when the block ends.

        It is locked while the block runs: a scratch directory without a lock is the orphan of a killed operation.
        If the disk is full or read-only, the directory is in tempfile.gettempdir() instead: saving and removing
        images must work then.
        """
        try:
            directory, lock = self._locked_scratch()
        except OSError as error:
            if not (reserve.is_full(error) or error.errno == errno.EROFS):
                raise
            import tempfile  # late: importing it costs every command 10 ms

            with tempfile.TemporaryDirectory(prefix="labctr-") as elsewhere:
                yield Path(elsewhere)
            return
        try:
            yield directory
        finally:
            # The lock last, so that no other process takes the directory for an orphan and deletes it concurrently.
            with contextlib.suppress(FileNotFoundError):
                remove_below(directory.parent, EntryName(directory.name))
            os.close(lock)

    def _locked_scratch(self) -> tuple[Path, int]:
        top = self.path / "tmp"
        top.mkdir(exist_ok=True, mode=0o700)
        with self.scratch_lock():
            directory = top / random_hex(8)
            directory.mkdir(mode=0o700)
            lock = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
            fcntl.flock(lock, fcntl.LOCK_EX)
        return directory, lock

    def spool_directory(self) -> Path:
        """Return a directory for unnamed temporary files (open(2), O_TMPFILE).

        It is on the data root's file system, or elsewhere if that is read-only.
        """
        top = self.path / "tmp"
        with contextlib.suppress(OSError):
            top.mkdir(exist_ok=True, mode=0o700)
        if os.access(top, os.W_OK):
            return top
        import tempfile  # late, as in scratch()

        return Path(tempfile.gettempdir())

    # -- the clock -------------------------------------------------------------------------------

    def now(self) -> str:
        """Return the time to record in new objects, in RFC 3339.

        SOURCE_DATE_EPOCH overrides the clock.
        """
        epoch = self.source_date_epoch
        return rfc3339(time.time_ns() if epoch is None else epoch)

    @property
    def source_date_epoch(self) -> int | None:
        """SOURCE_DATE_EPOCH in nanoseconds, None if it is not set.

        No recorded time is later than it.

        Source: reproducible-builds.org, "SOURCE_DATE_EPOCH specification". Raises InvalidInput.
        """
        epoch = os.environ.get("SOURCE_DATE_EPOCH")
        if not epoch:
            return None
        # isascii(), because "²".isdigit() is true, although int() refuses it.
        if not (epoch.isascii() and epoch.isdigit() and len(epoch) < 12):
            raise InvalidInput(
                f'SOURCE_DATE_EPOCH="{epoch}" is not a time', hint="write seconds since 1970, as date +%s prints"
            )
        return int(epoch) * 10**9

    def __repr__(self) -> str:
        return f"<DataRoot {self.path}>"
