"""Published ports: what `-p` says, and Docker's documents about it.

    -p [[address:][host port]:]container port[/protocol]

    8080:80              every address of the host
    127.0.0.1:8080:80    one of them; an IPv6 address stands in brackets: [::1]:8080:80
    80                   a port that the machine chooses; so does 127.0.0.1::80
    8000-8009:80         the first free one of these
    8000-8001:80-81      one for each
    53:53/udp            tcp is meant where nothing is said

Source of the grammar: docker/go-connections, nat/nat.go (ParsePortSpec). Docker's documents are
ExposedPorts, `{"80/tcp": {}}`, and PortBindings, `{"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from pylab_container.errors import InvalidInput
from pylab_container.text.address import parse_ip
from pylab_container.text.visible import visible

Exposed = dict[str, dict[str, str]]
Bindings = dict[str, list[dict[str, str]]]

_PROTOCOLS = ("tcp", "udp")
_HINT = "write [[ADDRESS:][HOST PORT]:]CONTAINER PORT[/tcp|/udp]"


class PortRange(Struct, frozen=True, order=True):
    """Ports from first to last, both included."""

    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first + 1


class PortRequest(Struct, frozen=True, kw_only=True):
    """One port of a container that somebody wants published.

    host_ip     "" is every address of the host
    host_ports  the first free one of these; None leaves the choice to the machine
    """

    container_port: int
    protocol: str = "tcp"
    host_ip: str = ""
    host_ports: PortRange | None = None


class PublishedPort(Struct, frozen=True, kw_only=True):
    """One port of the host that leads to a port of a container."""

    host_ip: str
    host_port: int
    container_port: int
    protocol: str


def parse_publish(specs: Iterable[str]) -> tuple[Exposed, Bindings]:
    """(ExposedPorts, PortBindings) of `-p` options. Raises InvalidInput."""
    exposed: Exposed = {}
    bindings: Bindings = {}
    for spec in specs:
        for port, binding in _parse(spec):
            exposed[port] = {}
            bindings.setdefault(port, []).append(binding)
    return exposed, bindings


_MOST_EXPOSED = 3 * 65535  # all of tcp, udp and sctp


def parse_expose(specs: Iterable[str]) -> Exposed:
    """ExposedPorts of `--expose` options: "80", "53/udp", "8000-8010". Raises InvalidInput."""
    exposed: Exposed = {}
    left = _MOST_EXPOSED
    for spec in specs:
        ports, protocol = _with_protocol(spec, spec)
        parsed = _range(ports, spec, what="container")
        left -= parsed.last - parsed.first + 1
        if left < 0:
            hint = "ranges that overlap count twice"
            raise InvalidInput(f"more than {_MOST_EXPOSED} ports are to be exposed", hint=hint)
        exposed |= {f"{port}/{protocol}": {} for port in range(parsed.first, parsed.last + 1)}
    return exposed


def requests(exposed: Iterable[str], bindings: Mapping[str, Any], *, publish_all: bool) -> list[PortRequest]:
    """What PortBindings ask for, by port; publish_all (`-P`) asks for the rest of the exposed ports too.

    Raises InvalidInput for a document that is none of Docker's.
    """
    wanted = {name: list(entries or [{}]) for name, entries in bindings.items()}
    if publish_all:
        wanted = {**{name: [{}] for name in exposed}, **wanted}
    found = [_request(name, entry) for name, entries in wanted.items() for entry in entries]
    return sorted(found, key=lambda request: (request.container_port, request.protocol))


def ports_document(exposed: Iterable[str], published: Sequence[PublishedPort]) -> dict[str, Any]:
    """NetworkSettings.Ports: each exposed port with where the host has it, or null."""
    names = {*exposed, *(f"{port.container_port}/{port.protocol}" for port in published)}
    document: dict[str, Any] = dict.fromkeys(sorted(names, key=_port_order))
    for port in published:
        name = f"{port.container_port}/{port.protocol}"
        binding = {"HostIp": port.host_ip, "HostPort": str(port.host_port)}
        document[name] = [*(document[name] or ()), binding]
    return document


def _parse(spec: str) -> list[tuple[str, dict[str, str]]]:
    """(container port, binding) pairs of one `-p`."""
    text, protocol = _with_protocol(spec, spec)
    address, host, container = _split(text, spec)
    inner = _range(container, spec, what="container")
    outer = _range(host, spec, what="host") if host else None
    if outer is not None and len(outer) != len(inner) and len(inner) != 1:
        raise InvalidInput(
            f"Invalid ranges specified for container and host Ports: {container} and {host}",
            hint="both must have as many ports",
        )
    pairs = []
    for offset in range(len(inner)):
        port = host if len(inner) == 1 else str(outer.first + offset) if outer else ""
        pairs.append((f"{inner.first + offset}/{protocol}", {"HostIp": address, "HostPort": port}))
    return pairs


def _with_protocol(text: str, spec: str) -> tuple[str, str]:
    ports, slash, protocol = text.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    if protocol not in _PROTOCOLS:
        raise InvalidInput(f"Invalid proto: {protocol}", hint=f"{spec!r}: there are tcp and udp")
    return ports, protocol


def _split(text: str, spec: str) -> tuple[str, str, str]:
    """(address, host ports, container ports), each as it is written; "" where it is not."""
    *before, container = text.rsplit(":", 2)
    if not container:
        raise InvalidInput(f"No port specified: {spec}<empty>", hint=_HINT)
    host = before.pop() if before else ""
    address = before[0] if before else ""
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    elif ":" in address:
        raise InvalidInput(f"Invalid ip address: {address}", hint="write an IPv6 address in brackets")
    return _checked_address(address), host, container


def _checked_address(address: str) -> str:
    if not address:
        return ""
    try:
        return str(parse_ip(address))
    except ValueError:
        raise InvalidInput(
            f"Invalid ip address: {visible(address)}", hint="write an address of the host, not a name"
        ) from None


def _range(text: str, spec: str, *, what: str) -> PortRange:
    first, dash, last = text.partition("-")
    numbers = [first, last] if dash else [first, first]
    valid = all(number.isascii() and number.isdigit() and len(number) < 6 for number in numbers)
    ports = PortRange(*(int(number) for number in numbers)) if valid else PortRange(-1, -1)
    lowest = 0 if what == "host" and not dash else 1  # 0 is Docker's, too, for "any"
    if not (lowest <= ports.first <= ports.last <= 65535):
        raise InvalidInput(f"Invalid {what}Port: {text}", hint=f"{spec!r}: ports are numbers from 1 to 65535")
    return ports


def _request(name: str, entry: Mapping[str, str]) -> PortRequest:
    port, protocol = _with_protocol(name, name)
    container = _range(port, name, what="container")
    text = entry.get("HostPort") or ""
    host = _range(text, f"{text}:{name}", what="host") if text else None
    return PortRequest(
        container_port=container.first,
        protocol=protocol,
        host_ip=_checked_address(entry.get("HostIp") or ""),
        host_ports=host if host and host.first else None,
    )


def _port_order(name: str) -> tuple[int, str]:
    port, _, protocol = name.partition("/")
    return int(port), protocol
