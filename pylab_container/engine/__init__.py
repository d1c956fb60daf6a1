"""The engine: the one place where store, runtime and network meet.

    Engine
    ├── images       ImageCollection: import_, build, list, get, tag, remove, history
    ├── containers   ContainerCollection: create, run, list, get
    ├── info()       what the tutorial looks at in `docker info`
    └── events       the stream of everything that the engine does

An engine is a view of a data root, not a server: many processes may each have one on the
same root. Locks on disk keep them apart; containers outlive all of them.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pylab_container.engine.containers import ContainerCollection
from pylab_container.engine.events import EventStream
from pylab_container.engine.images import ImageCollection
from pylab_container.engine.info import Info, describe
from pylab_container.errors import NotRoot
from pylab_container.formats.timestamps import rfc3339
from pylab_container.runtime.conmon import Conmon
from pylab_container.runtime.runc import Runc
from pylab_container.store.images import ImageStore
from pylab_container.store.layers import LayerStore
from pylab_container.store.overlay2 import Overlay2
from pylab_container.store.records import ContainerStore

if TYPE_CHECKING:
    from pylab_container.runtime.network import Bridge

DEFAULT_ROOT = "/var/lib/pylab-container"
RUN_ROOT = Path("/run/pylab-container")


class Engine:
    """Images and containers in one data root.

    data_root  where everything durable lies; default $LABCTR_ROOT, else
               /var/lib/pylab-container. It is created if missing. The layout is Docker's:

        <data root>/
        ├── image/overlay2/   imagedb, layerdb, repositories.json   (store/images.py, store/layers.py)
        ├── overlay2/         one directory a layer                 (store/overlay2.py)
        ├── containers/       one directory a container             (store/records.py)
        ├── volumes/          data that outlives containers
        └── locks/

    What only makes sense until the next reboot (bundles, pids, sockets) is in
    /run/pylab-container/<digest of the data root's path>/. Raises NotRoot.
    """

    def __init__(self, data_root: str | Path | None = None) -> None:
        self.data_root = Path(data_root or os.environ.get("LABCTR_ROOT") or DEFAULT_ROOT).absolute()
        if os.geteuid() != 0:
            raise NotRoot(
                "the engine needs root: mounts and namespaces are the kernel's business", hint="sudo labctr …"
            )
        self.data_root.mkdir(parents=True, exist_ok=True, mode=0o710)
        self.run_root = RUN_ROOT / hashlib.sha256(os.fsencode(self.data_root)).hexdigest()[:12]
        self.events = EventStream()
        emit = self.events.emit
        self.driver = Overlay2(self.data_root / "overlay2", emit=emit)
        image_root = self.data_root / "image" / self.driver.name
        self.image_store = ImageStore(image_root)
        self.layers = LayerStore(image_root / "layerdb", self.driver, emit=emit)
        self.records = ContainerStore(self.data_root / "containers", self.data_root / "locks")
        self.runc = Runc(self.run_root / "runc", emit=emit)
        self.conmon = Conmon(self.runc, emit=emit)
        self.images = ImageCollection(self)
        self.containers = ContainerCollection(self)

    @cached_property
    def bridge(self) -> Bridge:
        """The network that containers share; made when the first one needs it."""
        from pylab_container.runtime.network import Bridge

        return Bridge(run_root=RUN_ROOT, emit=self.events.emit)

    def prepare_network(self) -> None:
        """Begin to make `bridge` in the background: importing pyroute2 takes as long as runc takes to create."""
        threading.Thread(target=lambda: self.bridge, daemon=True).start()

    def info(self) -> Info:
        """What this engine is and has: `docker info`."""
        return describe(self)

    def scratch(self) -> Path:
        """A directory for what is only needed during one operation, on the data root's own disk."""
        directory = self.data_root / "tmp"
        directory.mkdir(exist_ok=True, mode=0o700)
        return directory

    def now(self) -> str:
        """The time that goes into what is made, RFC 3339; SOURCE_DATE_EPOCH (seconds) overrides the clock."""
        epoch = os.environ.get("SOURCE_DATE_EPOCH")
        return rfc3339(int(epoch) * 10**9 if epoch else time.time_ns())

    def __repr__(self) -> str:
        return f"<Engine {self.data_root}>"
