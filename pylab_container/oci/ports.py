"""Published ports: the grammar of `-p`, and the fields ExposedPorts and PortBindings.

    -p [[address:][host port]:]container port[/protocol]

    8080:80              on all addresses of the host
    127.0.0.1:8080:80    on one address; an IPv6 address is in brackets: [::1]:8080:80
    80                   the engine chooses a free port of the host; also 127.0.0.1::80
    8000-8009:80         the first free port of a range
    8000-8001:80-81      two ranges of the same length, port by port
    53:53/udp            without a protocol it is tcp

    ExposedPorts         {"80/tcp": {}}
    PortBindings         {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}

Source: docker/go-connections, nat/nat.go, ParsePortSpec().
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
    """Ports from first to last, both inclusive."""

    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first + 1


class PortRequest(Struct, frozen=True, kw_only=True):
    """A request to publish a port of a container.

    host_ip     "" for all addresses of the host
    host_ports  the first free one is used; None lets the engine choose
    """

    container_port: int
    protocol: str = "tcp"
    host_ip: str = ""
    host_ports: PortRange | None = None


class PublishedPort(Struct, frozen=True, kw_only=True):
    """A port of the host that is forwarded to a port of a container."""

    host_ip: str
    host_port: int
    container_port: int
    protocol: str


def parse_publish(specs: Iterable[str]) -> tuple[Exposed, Bindings]:
    """Parse values of `-p`. Returns (ExposedPorts, PortBindings). Raises InvalidInput."""
    exposed: Exposed = {}
    bindings: Bindings = {}
    for spec in specs:
        for port, binding in _parse(spec):
            exposed[port] = {}
            bindings.setdefault(port, []).append(binding)
    return exposed, bindings


_MAXIMUM_EXPOSED = 3 * 65535  # ports of tcp, udp and sctp; a few long ranges would otherwise fill the memory


def parse_expose(specs: Iterable[str]) -> Exposed:
    """Parse values of `--expose`: "80", "53/udp", "8000-8010". Returns ExposedPorts.

    Raises InvalidInput.
    """
    exposed: Exposed = {}
    remaining = _MAXIMUM_EXPOSED
    for spec in specs:
        ports, protocol = _with_protocol(spec, spec)
        parsed = _range(ports, spec, side="container")
        remaining -= parsed.last - parsed.first + 1
        if remaining < 0:
            hint = "ranges that overlap count twice"
            raise InvalidInput(f"cannot expose more than {_MAXIMUM_EXPOSED} ports", hint=hint)
        exposed |= {f"{port}/{protocol}": {} for port in range(parsed.first, parsed.last + 1)}
    return exposed


def requests(exposed: Iterable[str], bindings: Mapping[str, Any], *, publish_all: bool) -> list[PortRequest]:
    """Return the requests of PortBindings, sorted by port. Raises InvalidInput.

    publish_all  also publish the other exposed ports, on ports that the engine chooses (`-P`)
    """
    # A port with an empty list is published too, on a port that the engine chooses.
    entries_by_port = {name: list(entries or [{}]) for name, entries in bindings.items()}
    if publish_all:
        entries_by_port = {**{name: [{}] for name in exposed}, **entries_by_port}
    parsed = [_request(name, entry) for name, entries in entries_by_port.items() for entry in entries]
    return sorted(parsed, key=lambda request: (request.container_port, request.protocol))


def ports_document(exposed: Iterable[str], published: Sequence[PublishedPort]) -> dict[str, Any]:
    """Return NetworkSettings.Ports: each exposed port with its bindings, or null."""
    names = {*exposed, *(f"{port.container_port}/{port.protocol}" for port in published)}
    document: dict[str, Any] = dict.fromkeys(sorted(names, key=_port_order))
    for port in published:
        name = f"{port.container_port}/{port.protocol}"
        binding = {"HostIp": port.host_ip, "HostPort": str(port.host_port)}
        document[name] = [*(document[name] or ()), binding]
    return document


def _parse(spec: str) -> list[tuple[str, dict[str, str]]]:
    """Parse a value of `-p`. Returns pairs of container port and binding."""
    text, protocol = _with_protocol(spec, spec)
    address, host, container = _split(text, spec)
    container_ports = _range(container, spec, side="container")
    host_ports = _range(host, spec, side="host") if host else None
    if host_ports is not None and len(host_ports) != len(container_ports) and len(container_ports) != 1:
        raise InvalidInput(
            f"Invalid ranges specified for container and host Ports: {container} and {host}",
            hint="both ranges must have the same number of ports",
        )
    pairs = []
    for offset in range(len(container_ports)):
        # A single container port keeps the whole range of the host: its first free port is chosen at each start.
        port = host if len(container_ports) == 1 else str(host_ports.first + offset) if host_ports else ""
        pairs.append((f"{container_ports.first + offset}/{protocol}", {"HostIp": address, "HostPort": port}))
    return pairs


def _with_protocol(text: str, spec: str) -> tuple[str, str]:
    ports, slash, protocol = text.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    if protocol not in _PROTOCOLS:
        raise InvalidInput(f"Invalid proto: {protocol}", hint=f"{spec!r}: write /tcp or /udp")
    return ports, protocol


def _split(text: str, spec: str) -> tuple[str, str, str]:
    """Split into (address, host ports, container ports), each "" if absent. Raises InvalidInput."""
    # From the right, because an IPv6 address contains colons.
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


def _range(text: str, spec: str, *, side: str) -> PortRange:
    """Parse "80" or "80-90". side: "container" or "host". Raises InvalidInput."""
    first, dash, last = text.partition("-")
    numbers = [first, last] if dash else [first, first]
    valid = all(number.isascii() and number.isdigit() and len(number) < 6 for number in numbers)
    ports = PortRange(*(int(number) for number in numbers)) if valid else PortRange(-1, -1)
    lowest = 0 if side == "host" and not dash else 1  # port 0 of the host lets the engine choose
    if not (lowest <= ports.first <= ports.last <= 65535):
        raise InvalidInput(f"Invalid {side}Port: {text}", hint=f"{spec!r}: ports are numbers from 1 to 65535")
    return ports


def _request(name: str, entry: Mapping[str, str]) -> PortRequest:
    port, protocol = _with_protocol(name, name)
    container = _range(port, name, side="container")
    text = entry.get("HostPort") or ""
    host = _range(text, f"{text}:{name}", side="host") if text else None
    return PortRequest(
        container_port=container.first,
        protocol=protocol,
        host_ip=_checked_address(entry.get("HostIp") or ""),
        host_ports=host if host and host.first else None,
    )


def _port_order(name: str) -> tuple[int, str]:
    port, _, protocol = name.partition("/")
    return int(port), protocol
