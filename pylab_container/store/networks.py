"""What the engine remembers of the networks that users make.

    networks/<network id>.json      Docker's Network object, without its containers

Who is on a network is the kernel's to say: runtime/network. Docker keeps its networks in a bbolt
file. Whoever makes or removes one holds locks/networks; whoever joins one shares it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from pylab_container.errors import CorruptStore
from pylab_container.formats.image import Json
from pylab_container.host.files import locked, write_atomic


class NetworkStore:
    """Owns networks/."""

    def __init__(self, root: Path, locks: Path) -> None:
        self.root = root
        self._locks = locks

    def save(self, document: Json) -> None:
        """Write a network down; it exists from now on."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o710)
        write_atomic(self.path(document["Id"]), json.dumps(document).encode())

    def all(self) -> Iterator[Json]:
        """Every network, in no order. Raises CorruptStore for one that cannot be read."""
        for path in self.root.glob("*.json") if self.root.is_dir() else ():
            if not path.name.startswith(".") and (document := self.load(path.stem)):
                yield document

    def load(self, network_id: str) -> Json | None:
        """One network, None where there is no such. Raises CorruptStore for one that cannot be read."""
        try:
            document: Json = json.loads(self.path(network_id).read_bytes())
            if document["Id"] == network_id and isinstance(document["Name"], str) and document["IPAM"]["Config"]:
                return document
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptStore(f"the record of network {network_id[:12]} cannot be read: {error}") from error
        raise CorruptStore(f"the record of network {network_id[:12]} is another one's")

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
