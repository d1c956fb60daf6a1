"""The filters of `docker network ls`. Source: moby daemon/network/filter.go, 20.10."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pylab_container.docker.filters import Filters, has_labels, refuse_unknown, text_test, truth, values
from pylab_container.errors import InvalidInput
from pylab_container.networks.bridges import connected_containers
from pylab_container.networks.lookup import all_networks
from pylab_container.networks.network_record import NetworkRecord
from pylab_container.runtime import Runtime
from pylab_container.store.data_root import DataRoot

NETWORK_FILTERS = ("dangling", "driver", "id", "label", "name", "scope", "type")


def filtered_networks(data: DataRoot, runtime: Runtime, filters: Filters) -> list[NetworkRecord]:
    """Return the networks that pass all filters, by name. Raises InvalidInput for an unknown filter or value."""
    check_network_filters(filters)

    def is_used(record: NetworkRecord) -> bool:
        return bool(connected_containers(data, runtime, record))

    networks = sorted(all_networks(data), key=lambda record: record.name)
    return [record for record in networks if network_matches(record, filters, is_used)]


def check_network_filters(filters: Filters) -> None:
    """Raise InvalidInput for an unknown filter, and for an invalid value of one."""
    refuse_unknown(filters, NETWORK_FILTERS)
    dangling = values(filters, "dangling")
    if len(dangling) > 1:
        raise InvalidInput('got more than one value for filter key "dangling"', hint="write true or false")
    for text in dangling:
        truth("dangling", text)
    for text in values(filters, "type"):
        if text not in ("builtin", "custom"):
            raise InvalidInput(f"invalid filter: 'type'='{text}'", hint="use builtin or custom")


def network_matches(network: NetworkRecord, filters: Filters, is_used: Callable[[NetworkRecord], bool]) -> bool:
    """Return whether a network passes all filters, which check_network_filters() has accepted.

    is_used  returns whether a container is connected to a network
    """
    kind = "builtin" if network.is_predefined else "custom"
    labels: Mapping[str, Any] = network.document["Labels"]
    tests: Mapping[str, Callable[[tuple[str, ...]], bool]] = {
        "name": lambda words: text_test(words)(network.name),
        "id": lambda words: text_test(words)(network.id),
        "driver": lambda words: network.driver in words,
        "scope": lambda words: "local" in words,
        "type": lambda words: kind in words,
        "label": lambda words: has_labels(labels, words),
        "dangling": lambda words: (
            (not network.is_predefined and not is_used(network)) == truth("dangling", "".join(words))
        ),
    }
    return all(tests[name](values(filters, name)) for name in filters)
