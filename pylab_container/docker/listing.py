"""The filters of `volume ls` and `network ls`, by the words of `docker`.

Several values of one filter are alternatives, except labels; several filters must all hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pylab_container.docker.filters import (
    Filters,
    check_network_filters,
    has_labels,
    refuse_unknown,
    text_test,
    truth,
    values,
)
from pylab_container.networks.network_record import NetworkRecord
from pylab_container.store.volume_store import StoredVolume

_VOLUME_FILTERS = ("name", "label", "label!", "dangling", "driver")


def check_volume_filters(filters: Filters) -> None:
    """Raise InvalidInput for an unknown filter, also if there is no volume to list."""
    refuse_unknown(filters, _VOLUME_FILTERS)
    for text in values(filters, "dangling"):
        truth("dangling", text)


def volume_matches(volume: StoredVolume, filters: Filters, is_used: Callable[[StoredVolume], bool]) -> bool:
    """Whether a volume passes all filters, which check_volume_filters() has accepted.

    is_used  whether a container mounts a volume
    """
    tests: Mapping[str, Callable[[tuple[str, ...]], bool]] = {
        "name": lambda words: any(word in volume.name for word in words),
        "label": lambda words: has_labels(volume.labels, words),
        "label!": lambda words: not has_labels(volume.labels, words),
        "dangling": lambda words: is_used(volume) is not any(truth("dangling", word) for word in words),
        "driver": lambda words: "local" in words,
    }
    return all(tests[name](values(filters, name)) for name in filters)


def network_matches(network: NetworkRecord, filters: Filters, is_used: Callable[[NetworkRecord], bool]) -> bool:
    """Whether a network passes all filters. Raises InvalidInput for an unknown one.

    is_used  whether a container is connected to a network
    """
    check_network_filters(filters)
    kind = "builtin" if network.is_predefined else "custom"
    labels: Mapping[str, Any] = network.document["Labels"]
    tests: Mapping[str, Callable[[tuple[str, ...]], bool]] = {
        "name": lambda words: text_test(words)(network.name),
        "id": lambda words: text_test(words)(network.id),
        "driver": lambda words: network.driver in words,
        "scope": lambda words: "local" in words,
        "type": lambda words: kind in words,
        "label": lambda words: has_labels(labels, words),
        "dangling": lambda words: (not network.is_predefined and not is_used(network)) == (words[0] in ("true", "1")),
    }
    return all(tests[name](values(filters, name)) for name in filters)
