"""The filters of `docker volume ls`. Source: moby volume/service/by.go, 20.10."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pylab_container.docker.filters import Filters, has_labels, refuse_unknown, truth, values
from pylab_container.store.data_root import DataRoot
from pylab_container.store.volume_store import StoredVolume
from pylab_container.volumes import removal

VOLUME_FILTERS = ("name", "label", "label!", "dangling", "driver")


def filtered_volumes(data: DataRoot, filters: Filters) -> list[StoredVolume]:
    """Return the volumes that pass all filters, by name. Raises InvalidInput for an unknown filter or value."""
    check_volume_filters(filters)

    def is_used(volume: StoredVolume) -> bool:
        return bool(removal.users(data, volume))

    return [volume for volume in data.volumes.all() if volume_matches(volume, filters, is_used)]


def check_volume_filters(filters: Filters) -> None:
    """Raise InvalidInput for an unknown filter, and for an invalid value of one."""
    refuse_unknown(filters, VOLUME_FILTERS)
    for text in values(filters, "dangling"):
        truth("dangling", text)


def volume_matches(volume: StoredVolume, filters: Filters, is_used: Callable[[StoredVolume], bool]) -> bool:
    """Return whether a volume passes all filters, which check_volume_filters() has accepted.

    is_used  returns whether a container mounts a volume
    """
    tests: Mapping[str, Callable[[tuple[str, ...]], bool]] = {
        "name": lambda words: any(word in volume.name for word in words),
        "label": lambda words: has_labels(volume.labels, words),
        "label!": lambda words: not has_labels(volume.labels, words),
        "dangling": lambda words: is_used(volume) is not any(truth("dangling", word) for word in words),
        "driver": lambda words: "local" in words,
    }
    return all(tests[name](values(filters, name)) for name in filters)
