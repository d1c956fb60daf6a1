"""Files of /etc: hosts and resolv.conf, which the engine writes for a container; passwd and group, which it reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pylab_container.text.visible import check_line

NAME_SERVER = "127.0.0.11"
"""Where a container on networks of users finds ours, on its own loopback."""


_LAST_RESORT = ("8.8.8.8", "8.8.4.4")


def hosts_file(hostname: str, addresses: Iterable[str] = (), *, extra: Iterable[tuple[str, str]] = ()) -> str:
    """/etc/hosts as Docker writes it (hosts(5)).

    hostname   what the container calls itself, with blanks between several names
    addresses  the container's own
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
    return "".join(hosts_line(number, names) for number, names in lines)


def hosts_line(address: str, names: str) -> str:
    """Raises InvalidInput for names that would be several lines."""
    return f"{check_line(address, 'address')}\t{check_line(names, 'host name')}\n"


def with_address(text: str, address: str, hostname: str) -> str:
    """A hosts file in which the container has one address more."""
    return text + hosts_line(address, hostname)


def without_address(text: str, address: str) -> str:
    """A hosts file without the lines of one address."""
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if line.split()[:1] != [address])


def with_address_of(text: str, name: str, address: str) -> str:
    """A hosts file in which the lines that begin with a name have another address; "" takes them away."""
    lines = []
    for line in text.splitlines(keepends=True):
        words = line.split()
        if words[1:2] != [name] or (":" in words[0]) != (":" in (address or words[0])):
            lines.append(line)
        elif address:
            lines.append("\t".join([address, " ".join(words[1:])]) + "\n")
    return "".join(lines)


def container_resolv_conf(host_text: str, *, fallback: str = "") -> str:
    """The host's /etc/resolv.conf (resolv.conf(5)), fit for a container.

    A nameserver on the host's loopback does not exist in the container's network, so it is
    left out. If none remains, the fallback's are taken: with systemd-resolved that is the text
    of /run/systemd/resolve/resolv.conf, which names the real servers. If there are none either,
    it is the public ones that Docker ends at, too (libnetwork, FilterResolvDNS, 20.10).
    """
    for text in (host_text, fallback):
        kept = [line for line in text.splitlines() if not _is_loopback_nameserver(line)]
        if nameservers("\n".join(kept)):
            return "\n".join(kept) + "\n"
    remaining = [line for line in host_text.splitlines() if not _is_loopback_nameserver(line)]
    return "\n".join([*remaining, "", *(f"nameserver {server}" for server in _LAST_RESORT)]) + "\n"


def with_dns(text: str, *, servers: Sequence[str], search: Sequence[str], options: Sequence[str]) -> str:
    """A resolv.conf with other servers, search domains or options (--dns, --dns-search, --dns-opt).

    What is not given stays as it is, and nothing else: the file is made anew, as libnetwork's Build (20.10) makes it.
    The search domain "." means none.
    """
    if not (servers or search or options):
        return text
    domains, words = search or _last(text, "search"), options or _last(text, "options")
    lines = [f"search {' '.join(domains)}"] if domains and list(domains) != ["."] else []
    lines += [f"nameserver {server}" for server in servers or nameservers(text)]
    lines += [f"options {' '.join(words)}"] if words else []
    return "".join(f"{check_line(line, 'DNS setting')}\n" for line in lines)


def served_resolv_conf(text: str) -> str:
    """The resolv.conf of a container that asks our name server, made of one that names that one's servers.

    As libnetwork's rebuildDNS (20.10): the container asks IPv6 servers itself, and our server first for every name.
    """
    search, options = _last(text, "search"), _last(text, "options")
    if not any(option.startswith("ndots:") for option in options):
        options.append("ndots:0")
    servers = [NAME_SERVER, *(one for one in nameservers(text) if ":" in one and not is_loopback(one))]
    lines = [("search", *search)] if search else []
    lines += [*(("nameserver", one) for one in servers), ("options", *options)]
    return "".join(f"{' '.join(line)}\n" for line in lines)


def dots(text: str) -> int:
    """How many dots a name must have to be asked for as it is, 0 where a resolv.conf does not say (ndots)."""
    numbers = [option.removeprefix("ndots:") for option in _last(text, "options") if option.startswith("ndots:")]
    return int(numbers[-1]) if numbers and numbers[-1].isascii() and numbers[-1].isdigit() else 0


def _last(text: str, word: str) -> list[str]:
    """What the last line that begins with a word says, for that one counts."""
    found = [words[1:] for line in text.splitlines() if (words := line.split())[:1] == [word]]
    return found[-1] if found else []


def names_by_id(text: str) -> dict[int, str]:
    """The names in a passwd(5) or group(5) file by their numbers; the first entry of a number counts."""
    names: dict[int, str] = {}
    for line in text.splitlines():
        fields = line.split(":")
        if len(fields) > 2 and fields[2].isascii() and fields[2].isdigit():
            names.setdefault(int(fields[2]), fields[0])
    return names


def nameservers(text: str) -> tuple[str, ...]:
    """The addresses on the nameserver lines of a resolv.conf, in order."""
    return tuple(words[1] for line in text.splitlines() if len(words := line.split()) > 1 and words[0] == "nameserver")


def is_loopback(address: str) -> bool:
    """Whether an address is of the loopback."""
    # By the text alone: the module ipaddress would be a hundredth of a container's start.
    return address.startswith("127.") or address.strip("0:") == "1"


def _is_loopback_nameserver(line: str) -> bool:
    return any(map(is_loopback, nameservers(line)))
