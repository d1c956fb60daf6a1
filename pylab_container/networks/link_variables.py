"""Parse links (--link NAME[:ALIAS]), and build the environment variables about a linked container.

Links are Docker's legacy way for containers to find each other, older than networks of users. Only on the default
bridge a link also sets variables. Source: moby, daemon/links, 20.10.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping, Sequence

from pylab_container.errors import InvalidInput
from pylab_container.text.visible import check_line


def parse_link(text: str) -> tuple[str, str]:
    """Parse "NAME[:ALIAS]", or "/name:/container/alias" as inspect shows it, to (name, alias).

    Raises InvalidInput.
    """
    check_line(text, "link")
    if not text:
        raise InvalidInput("empty string specified for links", hint="write --link NAME[:ALIAS]")
    name, colon, alias = text.partition(":")
    if ":" in alias or not name or (colon and not alias):
        raise InvalidInput(f"bad format for links: {text}", hint="write --link NAME[:ALIAS]")
    if name.startswith("/"):
        return name[1:], posixpath.basename(alias) or name[1:]
    return name, alias.lstrip("/") or name


def link_pairs(links: Mapping[str, str] | Sequence[str | Sequence[str]]) -> list[tuple[str, str]]:
    """Parse docker-py's links: {name: alias}, a list of such pairs, or a list of "NAME[:ALIAS]".

    Raises InvalidInput.
    """
    entries = list(links.items()) if isinstance(links, Mapping) else list(links)
    return [parse_link(entry if isinstance(entry, str) else ":".join(filter(None, entry))) for entry in entries]


def link_environment(link_name: str, address: str, *, environment: Iterable[str], exposed: Iterable[str]) -> list[str]:
    """Return the variables about a linked container.

    link_name    "/container/alias"
    environment  of the linked container, "NAME=value"
    exposed      its ports, "80/tcp"
    """
    alias = posixpath.basename(link_name).upper().replace("-", "_")
    ports = sorted((_Port(name) for name in exposed), key=lambda port: (port.number, port.protocol != "tcp"))
    variables = [f"{alias}_PORT={ports[0].at(address)}"] if ports else []
    variables += _ranges(alias, address, ports)
    for port in ports:
        name = f"{alias}_PORT_{port.number}_{port.protocol.upper()}"
        variables += [f"{name}={port.at(address)}", f"{name}_ADDR={address}"]
        variables += [f"{name}_PORT={port.number}", f"{name}_PROTO={port.protocol}"]
    variables.append(f"{alias}_NAME={link_name}")
    pairs = [entry.partition("=") for entry in environment]
    return variables + [
        f"{alias}_ENV_{name}={value}" for name, equals, value in pairs if equals and name not in ("HOME", "PATH")
    ]


class _Port:
    def __init__(self, name: str) -> None:
        number, _, protocol = name.partition("/")
        self.number, self.protocol = int(number), protocol or "tcp"

    def at(self, address: str) -> str:
        return f"{self.protocol}://{address}:{self.number}"


def _ranges(alias: str, address: str, ports: Sequence[_Port]) -> list[str]:
    """The variables about each range of three or more consecutive ports: its first and its last port."""
    variables: list[str] = []
    begin = 0
    while begin < len(ports):
        end = begin
        while end + 1 < len(ports) and ports[end + 1].number <= ports[begin].number + end + 1 - begin:
            end += 1
        if end > begin + 1:  # as in moby, two ports are not a range
            first, last = ports[begin], ports[end]
            name = f"{alias}_PORT_{first.number}_{first.protocol.upper()}"
            variables += [f"{name}_START={first.at(address)}", f"{name}_ADDR={address}"]
            variables += [f"{name}_PROTO={first.protocol}", f"{name}_PORT_START={first.number}"]
            name = f"{alias}_PORT_{first.number}_{last.protocol.upper()}"
            variables += [f"{name}_END={last.at(address)}", f"{name}_PORT_END={last.number}"]
        begin = end + 1 if end > begin + 1 else begin + 1
    return variables
