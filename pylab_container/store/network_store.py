"""What the engine remembers of the networks that users make.

    networks/<network id>.json      Docker's Network object, without its containers

Who is on a network is the kernel's to say: runtime/network. Docker keeps its networks in a bbolt
file. Whoever makes or removes one holds locks/networks; whoever joins one shares it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

from pylab_container.errors import CorruptStore
from pylab_container.events import Emit, StoreDamaged, ignore
from pylab_container.host.files import locked, write_atomic
from pylab_container.oci.ids import NetworkId
from pylab_container.oci.image import Json
from pylab_container.store.reading import corrupt, peek, read_document
from pylab_container.store.record_shape import NetworkShape


class NetworkStore:
    """Owns networks/."""

    def __init__(self, root: Path, locks: Path, *, emit: Emit = ignore) -> None:
        self.root = root
        self._locks = locks
        self._emit = emit

    def save(self, document: Json) -> None:
        """Write a network down; it exists from now on."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o710)
        write_atomic(self.path(document["Id"]), json.dumps(document).encode())

    def all(self) -> Iterator[Json]:
        """Every network, in no order. One that cannot be read is left out and reported (StoreDamaged)."""
        for network_id in self.ids():
            try:
                document = self.load(network_id)
            except CorruptStore as error:
                self._emit(StoreDamaged.of(error))
                continue
            if document:
                yield document

    def damaged(self) -> dict[NetworkId, CorruptStore]:
        """The networks whose records cannot be read, with the reason."""
        found = {}
        for network_id in self.ids():
            try:
                self.load(network_id)
            except CorruptStore as error:
                found[network_id] = error
        return found

    def mentions(self, network_id: NetworkId, name: str) -> bool:
        """Whether a record that cannot be read as a whole seems to be that of the network called name."""
        text = peek(self.path(network_id))
        return bool(name) and re.search(rf'"Name":\s*"{re.escape(name)}"', text) is not None

    def ids(self) -> list[NetworkId]:
        """The ids that have a file, readable or not, in no order."""
        names = os.listdir(self.root) if self.root.is_dir() else ()
        return list(filter(None, (NetworkId.match(name.removesuffix(".json")) for name in names)))

    def load(self, network_id: str) -> Json | None:
        """One network, None where there is no such. Raises CorruptStore for one that cannot be read."""
        if NetworkId.match(network_id) is None:
            return None
        path = self.path(network_id)
        try:
            document, _ = read_document(path, NetworkShape)
        except FileNotFoundError:
            return None
        if document["Id"] != network_id:
            raise corrupt(path, f"it describes the network {document['Id'][:12]}")
        return document

    def remove(self, network_id: str) -> None:
        """Forget a network. No error if there is none."""
        self.path(network_id).unlink(missing_ok=True)

    def lock(self, *, shared: bool = False) -> contextlib.AbstractContextManager[None]:
        """Held while networks are made or removed; shared while containers join one."""
        return locked(self._locks / "networks", shared=shared)

    def lock_hosts(self) -> contextlib.AbstractContextManager[None]:
        """Held while the hosts files of a network's containers are written."""
        return locked(self._locks / "hosts")

    def path(self, network_id: str) -> Path:
        """The file of one network; it is there as long as the network is."""
        return self.root / f"{network_id}.json"
