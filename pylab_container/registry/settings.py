"""Which registries are asked, by which way, and how long.

    {"registry-mirrors": ["http://10.0.0.5:5000"], "insecure-registries": ["10.0.0.5:5000", "10.1.0.0/16"]}

The file has the words of dockerd's daemon.json; dockerd's own may be copied.
"""

from __future__ import annotations

import ipaddress
import json
import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from pylab_container.errors import InvalidInput
from pylab_container.oci.reference import DEFAULT_DOMAIN

FILE = Path("/etc/pylab-container/registries.json")
CERTIFICATES = Path("/etc/docker/certs.d")
_ORIGIN = f"registry-1.{DEFAULT_DOMAIN}"
"""Where Docker's own registry is: its name in references has no server."""


class Patience(Struct, frozen=True):
    """How long a registry may take, and how often it may fail.

    connect  seconds until it answers the telephone
    read     seconds without a byte
    tries    of one request, or of a download that comes no further
    pause    seconds before the second try; doubled before each one after
    longest  seconds, the most that a pause may be, also one that the registry asks for
    """

    connect: float = 2.5
    read: float = 30.0
    tries: int = 5
    pause: float = 0.5
    longest: float = 30.0

    def before(self, number: int, asked: str = "") -> float:
        """Seconds to wait after so many failures; asked: what Retry-After says (RFC 9110, 10.2.3), if seconds."""
        seconds: float = self.pause * 2 ** (number - 1) * random.uniform(0.8, 1.2)  # not all clients at once
        if asked.isascii() and asked.isdigit():
            seconds = float(asked)
        return min(seconds, self.longest)


class RegistryEndpoint(Struct, frozen=True):
    """Where a registry may be: addresses to try in this order, "https://host:port"."""

    host: str
    addresses: tuple[str, ...]
    mirror: bool = False


class RegistrySettings(Struct, frozen=True):
    """What an engine knows about registries.

    mirrors       addresses that are asked before Docker's own registry, for its images only
    insecure      hosts ("10.0.0.5:5000") and networks ("10.1.0.0/16") where plain http will do, and a certificate
                  that nobody vouches for; loopback always is
    certificates  a directory a registry: ca.crt, client.cert and client.key, as dockerd has it
    patience      see there
    """

    mirrors: tuple[str, ...] = ()
    insecure: tuple[str, ...] = ()
    certificates: Path = CERTIFICATES
    patience: Patience = Patience()

    @classmethod
    def read(
        cls,
        environment: Mapping[str, str] = os.environ,
        file: Path = FILE,
        *,
        mirrors: Sequence[str] | None = None,
        insecure: Sequence[str] | None = None,
    ) -> RegistrySettings:
        """From the file; LABCTR_REGISTRY_MIRRORS and LABCTR_INSECURE_REGISTRIES, with commas, replace what it says.

        mirrors, insecure  replace both

        Raises InvalidInput.
        """
        document = _document(file)
        return cls(
            mirrors=_checked(_first(mirrors, environment.get("LABCTR_REGISTRY_MIRRORS"), document, "registry-mirrors")),
            insecure=_first(insecure, environment.get("LABCTR_INSECURE_REGISTRIES"), document, "insecure-registries"),
        )

    def endpoints(self, domain: str) -> list[RegistryEndpoint]:
        """Where the images of a domain may be had: the mirrors first, where there are some."""
        mirrors = self.mirrors if domain == DEFAULT_DOMAIN else ()
        return [RegistryEndpoint(_host(mirror), (mirror.rstrip("/"),), mirror=True) for mirror in mirrors] + [
            self.endpoint(domain)
        ]

    def endpoint(self, domain: str) -> RegistryEndpoint:
        """Where the registry itself is. Only on loopback, and where it was allowed, plain http is tried, too."""
        host = _ORIGIN if domain == DEFAULT_DOMAIN else domain
        if is_loopback(bare_host(host)):
            return RegistryEndpoint(host, (f"http://{host}", f"https://{host}"))
        if self.is_insecure(host):
            return RegistryEndpoint(host, (f"https://{host}", f"http://{host}"))
        return RegistryEndpoint(host, (f"https://{host}",))

    def is_insecure(self, host: str) -> bool:
        """Whether plain http will do for a host ("10.0.0.5:5000"), and a certificate that nobody vouches for."""
        name = bare_host(host)
        return is_loopback(name) or any(entry in (host, name) or _in_network(name, entry) for entry in self.insecure)


def bare_host(host: str) -> str:
    """A host without its port: "localhost:5000" is "localhost", "[::1]:5000" is "::1"."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def is_loopback(name: str) -> bool:
    """Whether a host is this machine by its very name."""
    return name.lower() == "localhost" or _in_network(name, "127.0.0.0/8") or _in_network(name, "::1/128")


def _in_network(name: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(name) in ipaddress.ip_network(network)
    except ValueError:
        return False


def _host(address: str) -> str:
    return address.partition("://")[2].partition("/")[0]


def _first(
    given: Sequence[str] | None, variable: str | None, document: Mapping[str, Sequence[str]], name: str
) -> tuple[str, ...]:
    """The first of the three that says something."""
    if given is not None:
        return tuple(given)
    return tuple(document.get(name, ()) if variable is None else variable.replace(",", " ").split())


def _checked(mirrors: tuple[str, ...]) -> tuple[str, ...]:
    for mirror in mirrors:
        if not mirror.startswith(("http://", "https://")) or not _host(mirror):
            raise InvalidInput(f'invalid mirror: "{mirror}" is no address', hint="write http://host:port")
    return mirrors


def _document(file: Path) -> Mapping[str, Sequence[str]]:
    try:
        document = json.loads(file.read_bytes())
        valid = isinstance(document, dict) and all(
            isinstance(document.get(name, []), list) and all(isinstance(word, str) for word in document.get(name, []))
            for name in ("registry-mirrors", "insecure-registries")
        )
    except FileNotFoundError:
        return {}
    except (ValueError, OSError):
        valid = False
    if not valid:
        raise InvalidInput(
            f"{file} cannot be understood", hint='write {"registry-mirrors": [], "insecure-registries": []}'
        )
    found: Mapping[str, Sequence[str]] = document
    return found
