"""The filters of `docker ps`. Source: moby daemon/list.go, 20.10."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Mapping, Sequence

from pylab_container.containers import lookup as container_lookup
from pylab_container.docker.filters import Filters, has_labels, refuse_unknown, text_test, truth, values
from pylab_container.errors import InvalidInput, NotFound
from pylab_container.images import lookup
from pylab_container.networks import links
from pylab_container.oci.ports import parse_expose
from pylab_container.store.container_store import ContainerRecord
from pylab_container.store.data_root import DataRoot
from pylab_container.text.timestamps import parse_rfc3339

STATES = ("created", "restarting", "running", "removing", "paused", "exited", "dead")
HEALTH_STATES = ("starting", "healthy", "unhealthy", "none")

Test = Callable[[ContainerRecord], bool]


def matching_containers(
    data: DataRoot, records: Iterable[ContainerRecord], filters: Filters, *, all: bool = False, limit: int | None = None
) -> list[ContainerRecord]:
    """Return the containers that pass all filters, the newest first.

    records  settled records
    all      also containers that do not run; implied by limit and by a filter for the status
    limit    only this number of the newest containers; None: no limit

    Raises InvalidInput for an unknown filter or an invalid value, ContainerNotFound for before and since.
    """
    tests = container_tests(data, filters)
    shows_all = all or limit is not None or bool(values(filters, "status"))
    matching = [
        record
        for record in records
        if (shows_all or record.state_document()["Running"]) and builtins.all(test(record) for test in tests)
    ]
    matching.sort(key=lambda record: parse_rfc3339(record.created), reverse=True)
    return matching if limit is None else matching[:limit]


def container_tests(data: DataRoot, filters: Filters) -> list[Test]:
    """Return one test for each filter. Raises InvalidInput, ContainerNotFound."""
    refuse_unknown(filters, (*TESTS, "label!"))
    tests = [TESTS[name](data, values(filters, name)) for name in filters if name in TESTS]
    excluded = values(filters, "label!")
    if excluded:
        tests.append(lambda record: not has_labels(record.config.labels, excluded))
    return tests


def _by_id(data: DataRoot, patterns: Sequence[str]) -> Test:
    matches = text_test(patterns)
    return lambda record: matches(record.id)


def _by_name(data: DataRoot, patterns: Sequence[str]) -> Test:
    matches = text_test(patterns)
    link_names = links.names(data.records.all())

    def test(record: ContainerRecord) -> bool:
        names = (record.name, f"/{record.name}", *link_names.get(record.id, ()))
        return any(map(matches, names))

    return test


def _by_label(data: DataRoot, conditions: Sequence[str]) -> Test:
    return lambda record: has_labels(record.config.labels, conditions)


def _by_status(data: DataRoot, states: Sequence[str]) -> Test:
    for value in states:
        if value not in STATES:
            raise InvalidInput(f"Invalid filter 'status={value}'", hint=f"use one of {', '.join(STATES)}")
    return lambda record: record.state_document()["Status"] in states


def _by_exit_code(data: DataRoot, texts: Sequence[str]) -> Test:
    try:
        codes = [int(text) for text in texts]
    except ValueError:
        raise InvalidInput(f"Invalid filter 'exited={texts[-1]}'", hint="write exited=1") from None
    return lambda record: record.state_document()["Status"] == "exited" and record.exit_code in codes


def _by_health(data: DataRoot, states: Sequence[str]) -> Test:
    for value in states:
        if value not in HEALTH_STATES:
            hint = f"use one of {', '.join(HEALTH_STATES)}"
            raise InvalidInput(f"Unrecognised filter value for health: {value}", hint=hint)
    return lambda record: ((record.state_document().get("Health") or {}).get("Status") or "none") in states


def _by_ancestor(data: DataRoot, names: Sequence[str]) -> Test:
    """Match containers of an image, or of an image that was built on it. An unknown image has no containers."""
    image_ids = set()
    for name in names:
        try:
            image_ids.add(lookup.find(data, name))
        except (NotFound, InvalidInput):
            continue
    return lambda record: not image_ids.isdisjoint([record.image, *lookup.ancestors(data, record.image)])


def _by_volume(data: DataRoot, names: Sequence[str]) -> Test:
    def test(record: ContainerRecord) -> bool:
        known = {text for mount in record.mounts for text in (mount.name, mount.source, mount.destination)}
        return not known.isdisjoint(names)

    return test


def _by_network(data: DataRoot, names: Sequence[str]) -> Test:
    """Match by a network's name or the beginning of its id."""

    def test(record: ContainerRecord) -> bool:
        networks = record.network.networks
        known = {*networks, record.host_config.network_mode or "bridge"}
        ids = [endpoint.network_id for endpoint in networks.values() if endpoint]
        return not known.isdisjoint(names) or any(
            network_id.startswith(name) for network_id in ids for name in names if name
        )

    return test


def _creation_time(data: DataRoot, name: str) -> int:
    return parse_rfc3339(container_lookup.find(data.records, name).created)


def _by_before(data: DataRoot, names: Sequence[str]) -> Test:
    times = [_creation_time(data, name) for name in names]
    return lambda record: all(parse_rfc3339(record.created) < time for time in times)


def _by_since(data: DataRoot, names: Sequence[str]) -> Test:
    times = [_creation_time(data, name) for name in names]
    return lambda record: all(parse_rfc3339(record.created) > time for time in times)


def _by_exposed(data: DataRoot, texts: Sequence[str]) -> Test:
    """Match by a port inside the container. As in dockerd, only a running container has ports."""
    ports = set(parse_expose(texts))
    return lambda record: not ports.isdisjoint(record.network.ports)


def _by_published(data: DataRoot, texts: Sequence[str]) -> Test:
    """Match by a port of the host."""
    ports = set(parse_expose(texts))

    def test(record: ContainerRecord) -> bool:
        return any(
            f"{binding['HostPort']}/{name.partition('/')[2]}" in ports
            for name, bindings in record.network.ports.items()
            for binding in bindings or ()
        )

    return test


def _by_isolation(data: DataRoot, texts: Sequence[str]) -> Test:
    """Match every container: Linux has only one kind of isolation."""
    return lambda record: True


def _by_task(data: DataRoot, texts: Sequence[str]) -> Test:
    """Match every container for is-task=false: this engine has no swarm, so no container is a task."""
    requested = [truth("is-task", text) for text in texts]
    return lambda record: False in requested


TESTS: Mapping[str, Callable[[DataRoot, Sequence[str]], Test]] = {
    "ancestor": _by_ancestor,
    "before": _by_before,
    "exited": _by_exit_code,
    "expose": _by_exposed,
    "health": _by_health,
    "id": _by_id,
    "is-task": _by_task,
    "isolation": _by_isolation,
    "label": _by_label,
    "name": _by_name,
    "network": _by_network,
    "publish": _by_published,
    "since": _by_since,
    "status": _by_status,
    "volume": _by_volume,
}
