"""Build and parse the text of files in /etc: hosts, resolv.conf, passwd, group."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pylab_container.text.visible import check_line

NAME_SERVER = "127.0.0.11"
"""The address of the engine's name server in each container on a user's network, as in Docker."""

_PUBLIC_SERVERS = ("8.8.8.8", "8.8.4.4")


def hosts_file(hostname: str, addresses: Iterable[str] = (), *, extra: Iterable[tuple[str, str]] = ()) -> str:
    """Build /etc/hosts as Docker writes it (hosts(5)).

    hostname   the container's names, separated by blanks
    addresses  the container's own addresses
    extra      (name, address) pairs of --add-host
    """
    lines = [
        ("127.0.0.1", "localhost"),
        ("::1", "localhost ip6-localhost ip6-loopback"),
        ("fe00::0", "ip6-localnet"),
        ("ff00::0", "ip6-mcastprefix"),
        ("ff02::1", "ip6-allnodes"),
        ("ff02::2", "ip6-allrouters"),
        *((other, name) for name, other in extra),
        *((address, hostname) for address in addresses),
    ]
    return "".join(hosts_line(own, names) for own, names in lines)


def hosts_line(address: str, names: str) -> str:
    """Build one line of a hosts file. Raises InvalidInput for a line break, by which a name could inject lines."""
    return f"{check_line(address, 'address')}\t{check_line(names, 'host name')}\n"


def with_address(text: str, address: str, hostname: str) -> str:
    """Append a container's address to a hosts file."""
    return text + hosts_line(address, hostname)


def without_address(text: str, address: str) -> str:
    """Remove the lines of an address from a hosts file."""
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if line.split()[:1] != [address])


def with_address_of(text: str, name: str, address: str) -> str:
    """Replace the address of the lines of a hosts file whose first name is `name`; "" removes the lines."""
    lines = []
    for line in text.splitlines(keepends=True):
        words = line.split()
        # Only lines of the same IP version: a container may have an IPv4 and an IPv6 address under one name.
        if words[1:2] != [name] or (":" in words[0]) != (":" in (address or words[0])):
            lines.append(line)
        elif address:
            lines.append("\t".join([address, " ".join(words[1:])]) + "\n")
    return "".join(lines)


def container_resolv_conf(host_text: str, *, fallback: str = "") -> str:
    """Build a container's resolv.conf from the host's (resolv.conf(5)).

    A name server on the host's loopback is not reachable from the container's network, so it is left out. If no server
    remains, the fallback is used instead. If that has no server either, Docker's public servers are used (libnetwork,
    FilterResolvDNS(), 20.10).

    fallback  with systemd-resolved, the text of /run/systemd/resolve/resolv.conf, which has the upstream servers
    """
    for text in (host_text, fallback):
        kept = [line for line in text.splitlines() if not _is_loopback_nameserver(line)]
        if nameservers("\n".join(kept)):
            return "\n".join(kept) + "\n"
    remaining = [line for line in host_text.splitlines() if not _is_loopback_nameserver(line)]
    return "\n".join([*remaining, "", *(f"nameserver {server}" for server in _PUBLIC_SERVERS)]) + "\n"


def with_dns(text: str, *, servers: Sequence[str], search: Sequence[str], options: Sequence[str]) -> str:
    """Replace the servers, search domains or options of a resolv.conf (--dns, --dns-search, --dns-opt).

    An empty parameter keeps the present values. The search domain "." removes all search domains. Unless all parameters
    are empty, other lines are lost, because the file is rebuilt from these three kinds of lines, as by libnetwork's
    Build() (20.10).
    """
    if not (servers or search or options):
        return text
    domains, words = search or _last_values(text, "search"), options or _last_values(text, "options")
    lines = [f"search {' '.join(domains)}"] if domains and list(domains) != ["."] else []
    lines += [f"nameserver {server}" for server in servers or nameservers(text)]
    lines += [f"options {' '.join(words)}"] if words else []
    return "".join(f"{check_line(line, 'DNS setting')}\n" for line in lines)


def served_resolv_conf(text: str) -> str:
    """Build the resolv.conf of a container that uses the engine's name server.

    As in libnetwork's rebuildDNS() (20.10), the engine's server comes first, then the upstream servers with IPv6.

    text  a resolv.conf with the upstream servers
    """
    # With ndots:0 the C library looks up every name first without a search domain. Otherwise it would first try all
    # search domains for a name without a dot, such as a container's name, each with a query to an upstream server.
    search, options = _last_values(text, "search"), _last_values(text, "options")
    if not any(option.startswith("ndots:") for option in options):
        options.append("ndots:0")
    servers = [NAME_SERVER, *(server for server in nameservers(text) if ":" in server and not is_loopback(server))]
    lines = [("search", *search)] if search else []
    lines += [*(("nameserver", server) for server in servers), ("options", *options)]
    return "".join(f"{' '.join(line)}\n" for line in lines)


def ndots(text: str) -> int:
    """The option ndots, 0 if not set. A name with this many dots is looked up first without a search domain."""
    numbers = [option.removeprefix("ndots:") for option in _last_values(text, "options") if option.startswith("ndots:")]
    return int(numbers[-1]) if numbers and numbers[-1].isascii() and numbers[-1].isdigit() else 0


def _last_values(text: str, word: str) -> list[str]:
    """The values of a keyword on its last line, which takes precedence (resolv.conf(5), search)."""
    values = [words[1:] for line in text.splitlines() if (words := line.split())[:1] == [word]]
    return values[-1] if values else []


def names_by_id(text: str) -> dict[int, str]:
    """Parse a passwd(5) or group(5) file to {number: name}. The first entry for a number takes precedence."""
    names: dict[int, str] = {}
    for line in text.splitlines():
        fields = line.split(":")
        if len(fields) > 2 and fields[2].isascii() and fields[2].isdigit():
            names.setdefault(int(fields[2]), fields[0])
    return names


def nameservers(text: str) -> tuple[str, ...]:
    """The addresses of a resolv.conf's name servers, in order."""
    return tuple(words[1] for line in text.splitlines() if len(words := line.split()) > 1 and words[0] == "nameserver")


def is_loopback(address: str) -> bool:
    """Whether an address is on the loopback interface: 127.0.0.0/8 or ::1."""
    return address.startswith("127.") or address.strip("0:") == "1"


def _is_loopback_nameserver(line: str) -> bool:
    return any(map(is_loopback, nameservers(line)))
