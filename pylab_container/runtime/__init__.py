"""Run containers: runc, the monitors, networks and name servers.

The files of running containers are on a tmpfs, because a reboot ends all processes:

    /run/pylab-container/<digest of the data root's path>/
    ├── <container id>/    the bundle of one run, with its monitor's files     (monitor.py)
    ├── exits/             the exit statuses that monitors have written        (monitor.py)
    ├── runc/              runc's own state                                    (runc.py)
    ├── names/             the name server's containers                        (dns/)
    └── secrets/           the secrets of build steps: /run is in memory
"""

from __future__ import annotations

import hashlib
import os
import threading
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pylab_container.events import Emit
from pylab_container.host.extras import require
from pylab_container.runtime.conmon import Conmon
from pylab_container.runtime.monitor import Monitor
from pylab_container.runtime.runc import Runc

if TYPE_CHECKING:
    from pylab_container.runtime.network import Bridge

RUN_ROOT = Path("/run/pylab-container")


class Runtime:
    """Runs the containers of one data root: runc, conmon, and the default bridge.

    path   the directory drawn above; it depends on the path of the data root
    exits  the directory of exit statuses
    """

    def __init__(self, data_root: Path, *, emit: Emit) -> None:
        self.path = RUN_ROOT / hashlib.sha256(os.fsencode(data_root)).hexdigest()[:12]
        self.exits = self.path / "exits"
        self.runc = Runc(self.path / "runc", emit=emit)
        self.conmon = Conmon(self.runc, emit=emit)
        self._emit = emit

    @cached_property
    def bridge(self) -> Bridge:
        """The default bridge, which all data roots share. The kernel's bridge is created by the first connect()."""
        from pylab_container.runtime.network import Bridge

        return Bridge(run_root=RUN_ROOT, emit=self._emit)

    def prepare_network(self) -> None:
        """Import the network's modules in a thread. Raises MissingExtra without the libraries for networks."""
        # Importing pyroute2 takes as long as `runc create`, and both can happen concurrently.
        require("run")
        threading.Thread(target=lambda: self.bridge, daemon=True).start()

    def bundle(self, container_id: str) -> Path:
        """Return the directory of a container's run; it exists from before the start until after the exit."""
        return self.path / container_id

    def monitor(self, container_id: str) -> Monitor:
        """Return the monitor of a container, whether it runs or not."""
        return Monitor(container_id, bundle=self.bundle(container_id), exit_directory=self.exits)

    def secrets(self, container_id: str) -> Path:
        """Return the directory for the secrets of a build step while its container runs."""
        return self.path / "secrets" / container_id
