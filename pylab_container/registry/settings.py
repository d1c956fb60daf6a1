"""Configuration of registries: mirrors, insecure registries, certificates, timeouts and retries.

    {"registry-mirrors": ["http://10.0.0.5:5000"], "insecure-registries": ["10.0.0.5:5000", "10.1.0.0/16"]}

The file has the keys of dockerd's daemon.json, so that dockerd's file can be copied.
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
"""The host of Docker's own registry. The domain in references to its images, docker.io, does not serve the protocol."""


class RetryPolicy(Struct, frozen=True):
    """Timeouts of a request, and retries after failures.

    connect_timeout  seconds until the connection is established
    read_timeout     seconds without a byte
    tries            of one request, or of a download that makes no progress
    delay            seconds before the second try; doubled before each further one
    longest_delay    seconds; also limits a delay that the registry requests
    """

    connect_timeout: float = 2.5
    read_timeout: float = 30.0
    tries: int = 5
    delay: float = 0.5
    longest_delay: float = 30.0

    def delay_after(self, failures: int, retry_after: str = "") -> float:
        """Return the seconds to wait after this number of failures.

        retry_after  the registry's header Retry-After (RFC 9110, 10.2.3); it counts if it is a number of seconds
        """
        # Random, so that clients that failed at the same moment do not all try again at the same moment.
        seconds: float = self.delay * 2 ** (failures - 1) * random.uniform(0.8, 1.2)
        if retry_after.isascii() and retry_after.isdigit():
            seconds = float(retry_after)
        return min(seconds, self.longest_delay)


class RegistryEndpoint(Struct, frozen=True):
    """A registry and the addresses at which it may answer, "https://host:port", in the order in which to try them."""

    host: str
    addresses: tuple[str, ...]
    mirror: bool = False


class RegistrySettings(Struct, frozen=True):
    """The configuration of registries.

    mirrors       addresses to try before Docker's own registry, for its images only
    insecure      hosts ("10.0.0.5:5000") and networks ("10.1.0.0/16") for which plain http and unverified certificates
                  are allowed; the loopback always is
    certificates  directory with a subdirectory per registry: ca.crt, client.cert and client.key, as dockerd's
    retry_policy  timeouts and retries
    """

    mirrors: tuple[str, ...] = ()
    insecure: tuple[str, ...] = ()
    certificates: Path = CERTIFICATES
    retry_policy: RetryPolicy = RetryPolicy()

    @classmethod
    def read(
        cls,
        environment: Mapping[str, str] = os.environ,
        file: Path = FILE,
        *,
        mirrors: Sequence[str] | None = None,
        insecure: Sequence[str] | None = None,
    ) -> RegistrySettings:
        """Read the configuration. Each list comes from the first of these sources that has it:

        1. the parameters mirrors and insecure
        2. the variables LABCTR_REGISTRY_MIRRORS and LABCTR_INSECURE_REGISTRIES, separated by commas
        3. the file

        Raises InvalidInput.
        """
        document = _document(file)
        return cls(
            mirrors=_checked(_first(mirrors, environment.get("LABCTR_REGISTRY_MIRRORS"), document, "registry-mirrors")),
            insecure=_first(insecure, environment.get("LABCTR_INSECURE_REGISTRIES"), document, "insecure-registries"),
        )

    def endpoints(self, domain: str) -> list[RegistryEndpoint]:
        """Return the endpoints to try for the images of a domain: mirrors, then the registry itself."""
        mirrors = self.mirrors if domain == DEFAULT_DOMAIN else ()
        return [RegistryEndpoint(_host(mirror), (mirror.rstrip("/"),), mirror=True) for mirror in mirrors] + [
            self.endpoint(domain)
        ]

    def endpoint(self, domain: str) -> RegistryEndpoint:
        """Return the endpoint of the registry itself, without mirrors."""
        # Plain http is tried only on the loopback and for registries that are configured as insecure. Otherwise an
        # attacker who blocks https could make the client send its password in clear text.
        host = _ORIGIN if domain == DEFAULT_DOMAIN else domain
        if is_loopback(bare_host(host)):
            return RegistryEndpoint(host, (f"http://{host}", f"https://{host}"))
        if self.is_insecure(host):
            return RegistryEndpoint(host, (f"https://{host}", f"http://{host}"))
        return RegistryEndpoint(host, (f"https://{host}",))

    def is_insecure(self, host: str) -> bool:
        """Return whether plain http and unverified certificates are allowed for a host: "10.0.0.5:5000"."""
        name = bare_host(host)
        return is_loopback(name) or any(entry in (host, name) or _in_network(name, entry) for entry in self.insecure)


def bare_host(host: str) -> str:
    """Remove the port from a host: "localhost:5000" is "localhost", "[::1]:5000" is "::1"."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def is_loopback(name: str) -> bool:
    """Return whether a host name is localhost or a loopback address. Names are not resolved."""
    return name.lower() == "localhost" or _in_network(name, "127.0.0.0/8") or _in_network(name, "::1/128")


def _in_network(name: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(name) in ipaddress.ip_network(network)
    except ValueError:
        return False


def _host(address: str) -> str:
    return address.partition("://")[2].partition("/")[0]


def _first(
    parameter: Sequence[str] | None, variable: str | None, document: Mapping[str, Sequence[str]], name: str
) -> tuple[str, ...]:
    """Return the value of the first of the three sources that has one."""
    if parameter is not None:
        return tuple(parameter)
    return tuple(document.get(name, ()) if variable is None else variable.replace(",", " ").split())


def _checked(mirrors: tuple[str, ...]) -> tuple[str, ...]:
    for mirror in mirrors:
        if not mirror.startswith(("http://", "https://")) or not _host(mirror):
            raise InvalidInput(f'invalid mirror: "{mirror}" is not an address', hint="write http://host:port")
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
        raise InvalidInput(f"{file} cannot be parsed", hint='write {"registry-mirrors": [], "insecure-registries": []}')
    lists: Mapping[str, Sequence[str]] = document
    return lists
