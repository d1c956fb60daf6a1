"""The records of user-defined networks.

    networks/<network id>.json      Docker's Network object, without its containers

The containers on a network are recorded in the kernel, not here (runtime/network). Docker stores its networks in a
bbolt file. A process that creates or removes a network holds an exclusive lock on locks/networks; a process that
connects a container holds a shared lock.
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
        """Write the record of a network: create the network, or replace its record."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o710)
        write_atomic(self.path(document["Id"]), json.dumps(document).encode())

    def all(self) -> Iterator[Json]:
        """Yield every readable network, unordered.

        A damaged one is left out and reported as StoreDamaged.
        """
        for network_id in self.ids():
            try:
                document = self.load(network_id)
            except CorruptStore as error:
                self._emit(StoreDamaged.of(error))
                continue
            if document:
                yield document

    def damaged(self) -> dict[NetworkId, CorruptStore]:
        """Return the networks whose records cannot be read, each with its error."""
        errors = {}
        for network_id in self.ids():
            try:
                self.load(network_id)
            except CorruptStore as error:
                errors[network_id] = error
        return errors

    def mentions(self, network_id: NetworkId, name: str) -> bool:
        """Report whether a damaged record seems to belong to the network called name.

        A command for this network then reports the damage instead of an unknown network.
        """
        text = peek(self.path(network_id))
        return bool(name) and re.search(rf'"Name":\s*"{re.escape(name)}"', text) is not None

    def ids(self) -> list[NetworkId]:
        """Return the ids of all records, damaged ones included, unordered."""
        names = os.listdir(self.root) if self.root.is_dir() else ()
        return list(filter(None, (NetworkId.match(name.removesuffix(".json")) for name in names)))

    def load(self, network_id: str) -> Json | None:
        """Return a network, None if it does not exist. Raises CorruptStore for a damaged record."""
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
        """Delete the record of a network. Idempotent."""
        self.path(network_id).unlink(missing_ok=True)

    def lock(self, *, shared: bool = False) -> contextlib.AbstractContextManager[None]:
        """Lock against the creation and removal of networks; take it shared to connect a container."""
        return locked(self._locks / "networks", shared=shared)

    def lock_hosts(self) -> contextlib.AbstractContextManager[None]:
        """Serialize writes to the hosts files of containers."""
        return locked(self._locks / "hosts")

    def path(self, network_id: str) -> Path:
        """Return the path of a network's record."""
        return self.root / f"{network_id}.json"
