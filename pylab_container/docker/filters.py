"""Which containers a listing shows: the filters of `docker ps`.

Several values of one filter are alternatives, except labels, which must all be there; several
filters must all hold. Source: moby daemon/list.go, 20.10.
"""

from __future__ import annotations

import builtins
import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from pylab_container.errors import ContainerNotFound, InvalidInput, NotFound
from pylab_container.networks import links
from pylab_container.oci import reference as references
from pylab_container.store.damage import ReportingDamage
from pylab_container.text.globs import Glob, match_steps
from pylab_container.text.timestamps import moment, parse_rfc3339

if TYPE_CHECKING:
    from pylab_container.engine import Engine
    from pylab_container.engine.container import Container
    from pylab_container.engine.networks import Network
    from pylab_container.images.image import Image
    from pylab_container.store.container_store import ContainerRecord

Filters = Mapping[str, str | bool | Sequence[str]]

STATES = ("created", "restarting", "running", "removing", "paused", "exited", "dead")
_HEALTH = ("starting", "healthy", "unhealthy", "none")

Test = Callable[["ContainerRecord"], bool]


def values(filters: Filters, name: str) -> tuple[str, ...]:
    """The values of one filter, as text."""
    given = filters.get(name, ())
    if isinstance(given, bool):
        return (str(given).lower(),)
    return (given,) if isinstance(given, str) else tuple(given)


def refuse_unknown(filters: Filters, known: Collection[str]) -> None:
    """Raises InvalidInput for a filter that there is not."""
    for name in filters:
        if name not in known:
            raise InvalidInput(f"Invalid filter '{name}'", hint=f"there are {', '.join(known)}")


def truth(name: str, text: str) -> bool:
    """What the value of a filter that is true or false says. Raises InvalidInput."""
    if text.lower() not in ("1", "true", "0", "false"):
        raise InvalidInput(f"Invalid filter '{name}=[{text}]'", hint="write true or false")
    return text.lower() in ("1", "true")


_SPECIAL = frozenset("\\.+*?()|[]{}^$")
"""The characters of a regular expression that are not simply themselves."""


def searcher(pattern: str) -> Callable[[str], bool]:
    """Whether a text has a match of a regular expression (RE2's) somewhere. Raises InvalidInput, MissingExtra."""
    if _SPECIAL.isdisjoint(pattern):
        return lambda text: pattern in text
    from pylab_container.docker import regexes  # a name is searched for without a library

    return regexes.searcher(pattern)


def text_test(wanted: Iterable[str]) -> Callable[[str], bool]:
    """Whether a name or id is one of wanted, or a regular expression among them is found in it. Raises InvalidInput."""
    names = set(wanted)
    searchers = [searcher(pattern) for pattern in names]
    return lambda text: text in names or any(search(text) for search in searchers)


def has_labels(labels: Mapping[str, str], wanted: Iterable[str]) -> bool:
    """Whether all of "name" or "name=value" are there."""
    pairs = (text.partition("=") for text in wanted)
    return all(name in labels and (not equals or labels[name] == value) for name, equals, value in pairs)


def container_tests(engine: Engine, filters: Filters) -> list[Test]:
    """What a container's record must pass. Raises InvalidInput, ContainerNotFound for before and since."""
    refuse_unknown(filters, (*_TESTS, "label!"))
    tests = [_TESTS[name](engine, values(filters, name)) for name in filters if name in _TESTS]
    without = values(filters, "label!")
    if without:
        tests.append(lambda record: not has_labels(_labels(record), without))
    return tests


def _labels(record: ContainerRecord) -> Mapping[str, str]:
    return record.config.labels


def _by_id(engine: Engine, wanted: Sequence[str]) -> Test:
    matches = text_test(wanted)
    return lambda record: matches(record.id)


def _by_name(engine: Engine, wanted: Sequence[str]) -> Test:
    matches = text_test(wanted)
    called = links.names(engine.data.records.all())

    def test(record: ContainerRecord) -> bool:
        names = (record.name, f"/{record.name}", *called.get(record.id, ()))
        return any(map(matches, names))

    return test


def _by_label(engine: Engine, wanted: Sequence[str]) -> Test:
    return lambda record: has_labels(_labels(record), wanted)


def _by_status(engine: Engine, wanted: Sequence[str]) -> Test:
    for value in wanted:
        if value not in STATES:
            raise InvalidInput(f"Invalid filter 'status={value}'", hint=f"there are {', '.join(STATES)}")
    return lambda record: record.state_document()["Status"] in wanted


def _by_exit_code(engine: Engine, wanted: Sequence[str]) -> Test:
    try:
        codes = [int(value) for value in wanted]
    except ValueError:
        raise InvalidInput(f"Invalid filter 'exited={wanted[-1]}'", hint="write exited=1") from None
    return lambda record: record.state_document()["Status"] == "exited" and record.exit_code in codes


def _by_health(engine: Engine, wanted: Sequence[str]) -> Test:
    for value in wanted:
        if value not in _HEALTH:
            raise InvalidInput(f"Unrecognised filter value for health: {value}", hint=f"there are {', '.join(_HEALTH)}")
    return lambda record: ((record.state_document().get("Health") or {}).get("Status") or "none") in wanted


def _by_ancestor(engine: Engine, wanted: Sequence[str]) -> Test:
    """The image itself, or one that was built on it. An image that there is not has no containers."""
    ids = set()
    for name in wanted:
        try:
            ids.add(engine.images.get(name).id)
        except (NotFound, InvalidInput):
            continue
    return lambda record: bool(ids & {record.image, *(engine.images.ancestors(record.image) if record.image else ())})


def _by_volume(engine: Engine, wanted: Sequence[str]) -> Test:
    def test(record: ContainerRecord) -> bool:
        known = {str(mount.get(field) or "") for mount in record.mounts for field in ("Name", "Source", "Destination")}
        return bool(known & set(wanted))

    return test


def _by_network(engine: Engine, wanted: Sequence[str]) -> Test:
    def test(record: ContainerRecord) -> bool:
        networks: Mapping[str, Any] = record.network.networks
        known = {*networks, str(record.host_config.network_mode or "bridge")}
        ids = [str((settings or {}).get("NetworkID") or "") for settings in networks.values()]
        return bool(known & set(wanted)) or any(one.startswith(text) for one in ids for text in wanted if text)

    return test


def _created(engine: Engine, name: str) -> int:
    return parse_rfc3339(engine.containers.get(name).record.created)


def _by_before(engine: Engine, wanted: Sequence[str]) -> Test:
    moments = [_created(engine, name) for name in wanted]
    return lambda record: all(parse_rfc3339(record.created) < moment for moment in moments)


def _by_since(engine: Engine, wanted: Sequence[str]) -> Test:
    moments = [_created(engine, name) for name in wanted]
    return lambda record: all(parse_rfc3339(record.created) > moment for moment in moments)


def _ports(wanted: Sequence[str]) -> set[str]:
    from pylab_container.oci.ports import parse_expose  # it imports ipaddress, which takes milliseconds

    return set(parse_expose(wanted))


def _by_exposed(engine: Engine, wanted: Sequence[str]) -> Test:
    """By the ports inside. As in dockerd, only who runs has ports at all."""
    ports = _ports(wanted)
    return lambda record: bool(ports & set(record.network.ports))


def _by_published(engine: Engine, wanted: Sequence[str]) -> Test:
    """By the ports of the host."""
    ports = _ports(wanted)

    def test(record: ContainerRecord) -> bool:
        published = record.network.ports
        outside = {
            f"{one['HostPort']}/{name.partition('/')[2]}"
            for name, bindings in published.items()
            for one in bindings or ()
        }
        return bool(ports & outside)

    return test


def _by_isolation(engine: Engine, wanted: Sequence[str]) -> Test:
    """Linux knows one kind, whatever it is called."""
    return lambda record: True


def _by_task(engine: Engine, wanted: Sequence[str]) -> Test:
    """Nothing here is a task of a swarm."""
    wishes = [truth("is-task", text) for text in wanted]
    return lambda record: False in wishes


_TESTS: Mapping[str, Callable[[Engine, Sequence[str]], Test]] = {
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


def containers(engine: Engine, *, all: bool, filters: Filters, limit: int | None) -> list[Container]:
    """What ContainerCollection.list() gives."""
    from pylab_container.engine.container import Container

    tests = container_tests(engine, filters)
    shown = all or limit is not None or bool(values(filters, "status"))
    listed = []
    for written in engine.data.records.all():
        container = Container(engine, written.id)
        removed = partial(_is_removed, engine, written.id)
        with contextlib.suppress(ContainerNotFound), ReportingDamage(engine.events.emit, removed):
            record = container.record
            runs = record.state_document()["Running"]
            if (shown or runs) and builtins.all(test(record) for test in tests):
                listed.append((parse_rfc3339(record.created), container))
    newest = [container for _, container in sorted(listed, key=lambda pair: pair[0], reverse=True)]
    return newest if limit is None else newest[:limit]


def _is_removed(engine: Engine, container_id: str) -> bool:
    return not engine.data.records.exists(container_id)


_NETWORKS = ("dangling", "driver", "id", "label", "name", "scope", "type")


def networks(engine: Engine, filters: Filters) -> list[Network]:
    """The networks that pass all filters: dangling, driver, id, label, name, scope, type (builtin or custom).

    Raises InvalidInput for a filter that there is not.
    """
    check_network_filters(filters)
    return [one for one in engine.networks.list() if all(_network_passes(one, filters, n) for n in filters)]


def check_network_filters(filters: Filters) -> None:
    """Raises InvalidInput for a filter that there is not, and for values that mean nothing."""
    refuse_unknown(filters, _NETWORKS)
    dangling = values(filters, "dangling")
    if len(dangling) > 1:
        raise InvalidInput('got more than one value for filter key "dangling"', hint="say true or false")
    for text in dangling:
        truth("dangling", text)
    for text in values(filters, "type"):
        if text not in ("builtin", "custom"):
            raise InvalidInput(f"invalid filter: 'type'='{text}'", hint="there are builtin and custom")


def _network_passes(network: Network, filters: Filters, name: str) -> bool:
    wanted = values(filters, name)
    match name:
        case "driver":
            return network.driver in wanted
        case "scope":
            return "local" in wanted
        case "id":
            return any(network.id.startswith(text) for text in wanted)
        case "name":
            return text_test(wanted)(network.name)
        case "label":
            return has_labels(network.document.get("Labels") or {}, wanted)
        case "type":
            return ("builtin" if network.is_predefined else "custom") in wanted
    unused = not network.is_predefined and not network.attrs["Containers"]
    return unused in [truth("dangling", text) for text in wanted]


_IMAGES = ("before", "dangling", "label", "reference", "since", "until")


def images(engine: Engine, found: Iterable[Image], filters: Filters) -> list[Image]:
    """Those of the images that pass all filters: before, dangling, label, reference, since, until (a time).

    Raises InvalidInput for a filter that there is not, ImageNotFound for before and since.
    """
    refuse_unknown(filters, _IMAGES)
    before = [engine.images.get(name).config.created_at for name in values(filters, "before")]
    since = [engine.images.get(name).config.created_at for name in values(filters, "since")]
    labels, dangling = values(filters, "label"), [truth("dangling", text) for text in values(filters, "dangling")]
    if True in dangling:  # as in dockerd, where "true" is looked for first
        dangling = [True]
    patterns = values(filters, "reference")
    until = [moment(text, now=time.time()) for text in values(filters, "until")]
    return [
        image
        for image in found
        if all(image.config.created_at < other for other in before)
        and all(image.config.created_at > other for other in since)
        and (not until or image.config.created_at < min(until) * 10**9)
        and has_labels(image.config.config.get("Labels") or {}, labels)
        and (not dangling or (not image.tags) in dangling)
        and (not patterns or matching_names(image.tags, patterns))
    ]


def matching_names(names: Iterable[str], patterns: Iterable[str]) -> list[str]:
    """Those of an image's names that match a pattern, as they are or without tag or digest: "deb*", "debian:12".

    A name is also known in full, "docker.io/library/debian:12". The patterns are those of Go's path.Match.
    Raises InvalidInput.
    """
    globs = [Glob(match_steps(pattern)) for pattern in patterns]
    return [name for name in names if any(glob.matches(known) for known in _known_as(name) for glob in globs)]


def _known_as(name: str) -> Iterator[str]:
    reference = references.parse(name)
    full = f"{reference.domain}/{reference.path}"
    yield from (name, reference.repository)
    yield from (full, full + name.removeprefix(reference.repository))
