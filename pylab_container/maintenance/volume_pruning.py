"""`volume prune`: remove the volumes that no container mounts."""

from __future__ import annotations

from pylab_container.docker.filters import Filters, refuse_unknown, values
from pylab_container.docker.listing import volume_matches
from pylab_container.errors import CorruptStore, InvalidInput
from pylab_container.events import PruneDone, StoreDamaged
from pylab_container.maintenance.usage import directory_size
from pylab_container.store.data_root import DataRoot
from pylab_container.volumes import removal


def prune_volumes(data: DataRoot, filters: Filters) -> tuple[list[str], int]:
    """Remove the unused volumes that pass the filters; return their names and the bytes of file content freed.

    filters  all=true: also those with a name of their own; label, label!

    Raises InvalidInput. While a container's record is damaged, no volume is removed: its use is unknown.
    """
    refuse_unknown(filters, ("all", "label", "label!"))
    everything = _truth(values(filters, "all")) if "all" in filters else False
    labels = {name: value for name, value in filters.items() if name != "all"}
    deleted: list[str] = []
    freed = 0
    with data.volumes.lock():
        try:
            for volume in list(data.volumes.all()):
                is_candidate = volume_matches(volume, labels, lambda _: False) and (everything or volume.anonymous)
                if is_candidate and not removal.certain_users(data, volume):
                    freed += directory_size(str(volume.path))
                    removal.delete(data, volume)  # the prune event alone reports it, as in Docker
                    deleted.append(volume.name)
        except CorruptStore as error:
            data.emit(StoreDamaged.of(error))
    data.emit(PruneDone("volume", freed))
    return deleted, freed


def _truth(texts: tuple[str, ...]) -> bool:
    text = "".join(texts).lower()
    if text not in ("true", "1", "false", "0"):
        raise InvalidInput(f"invalid value of a filter: {text}", hint="write true or false")
    return text in ("true", "1")
