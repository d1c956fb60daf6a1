"""Serve images of this data root to a class, with Debian's docker-registry.

One machine has the images, the others need no internet: they pull by the server's name, or use it as a mirror of
Docker's registry, with the images' usual names.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from pylab_container.errors import ImageNotFound, InvalidInput, RuntimeFailed, Unreachable
from pylab_container.host import programs
from pylab_container.images import lookup
from pylab_container.oci.reference import Reference
from pylab_container.registry.client import RegistryClient
from pylab_container.registry.push import copy
from pylab_container.registry.settings import RegistryEndpoint, RegistrySettings, is_loopback
from pylab_container.store.data_root import DataRoot

PROGRAM = "docker-registry"
START_TIMEOUT = 60.0  # seconds until the server must answer; one that cannot start exits at once
POLL_INTERVAL = 0.05  # seconds between two attempts to reach the server
ALL_ADDRESSES = "0.0.0.0"


class RegistryServer(Struct, frozen=True):
    """A running registry.

    host, port  the address for clients
    names       the names of its images
    """

    host: str
    port: int
    names: tuple[Reference, ...]
    process: programs.Process[bytes]

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)

    def wait(self) -> int:
        """Wait until the server exits; returns its exit status."""
        return self.process.wait()


@contextlib.contextmanager
def running(
    data: DataRoot,
    settings: RegistrySettings,
    images: Sequence[str],
    *,
    address: str,
    port: int,
    directory: Path | None,
) -> Iterator[RegistryServer]:
    """Run a registry while the block runs.

    images     names of images; an empty sequence selects all names
    address    of the interface to listen on; "0.0.0.0" is all of them
    port       0 chooses a free port
    directory  for the server's data; None: a temporary one

    Raises MissingProgram, ImageNotFound, RuntimeFailed, and InvalidInput for a port that is in use.
    """
    selection = _select_images(data, images)
    port = _checked_port(address, port)
    local = "127.0.0.1" if address == ALL_ADDRESSES else address
    with data.scratch() as scratch:
        config = scratch / "config.yml"
        config.write_text(configuration(directory.absolute() if directory else scratch / "data", address, port))
        log = scratch / "log"
        process = _start(config, log)
        try:
            registry = RegistryClient(RegistryEndpoint(f"{local}:{port}", (f"http://{local}:{port}",)), settings)
            with contextlib.closing(registry):
                _wait(registry, process, log)
                copy(data, selection, registry)
            names = tuple(name for name, _ in selection)
            yield RegistryServer(_own_address() if address == ALL_ADDRESSES else address, port, names, process)
        finally:
            process.terminate()
            process.wait()


def _start(config: Path, log: Path) -> programs.Process[bytes]:
    """Start the server; the kernel terminates it when this process dies (PR_SET_PDEATHSIG)."""
    command = ["setpriv", "--pdeathsig=TERM", programs.find(PROGRAM), "serve", str(config)]
    with open(log, "wb") as output:
        return programs.spawn(command, stdout=output.fileno(), stderr=output.fileno())


def _select_images(data: DataRoot, images: Sequence[str]) -> list[tuple[Reference, str]]:
    """Return the names to serve, each with its image's id."""
    tags = data.images.tags()
    if not images:
        return [(tag.reference, tag.image_id) for tag in tags]
    selection: list[tuple[Reference, str]] = []
    for name in images:
        image_id = lookup.find(data, name)
        references = [tag.reference for tag in tags if tag.image_id == image_id]
        if not references:
            raise ImageNotFound(f"the image {name} has no name to serve it by", hint=f"labctr tag {name} NAME:TAG")
        exact = [reference for reference in references if reference.familiar in (name, f"{name}:latest")]
        selection += [(reference, image_id) for reference in exact or references]
    return selection


def configuration(directory: Path, address: str, port: int) -> str:
    """Return docker-registry's YAML as JSON, a subset of YAML; directory is for its data."""
    return json.dumps(
        {
            "version": "0.1",
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": str(directory)}, "delete": {"enabled": True}},
            "http": {"addr": f"{address}:{port}"},
        }
    )


def free_port(address: str, port: int = 0) -> int:
    """Return the port if it is free, or for 0 a free one. Raises OSError."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((address, port))
        return int(probe.getsockname()[1])


def _checked_port(address: str, port: int) -> int:
    """As free_port(), but raise InvalidInput: clients would mistake another registry on the port for this one."""
    try:
        return free_port(address, port)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        hint = "--port 0 takes a free one; ip addr lists the addresses of this machine"
        raise InvalidInput(f"cannot listen on {address}:{port}: {reason}", hint=hint) from error


def _own_address() -> str:
    """Return the address from which this machine reaches others; its host name if it has no route to them."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("192.0.2.1", 9))  # an address for documentation (RFC 5737); connect(2) on UDP sends nothing
        return str(probe.getsockname()[0])
    return socket.gethostname()


def _wait(registry: RegistryClient, process: programs.Process[bytes], log: Path) -> None:
    """Wait until the server answers. Raises RuntimeFailed after START_TIMEOUT, InvalidInput if it has exited."""
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        try:
            registry.ping()
        except Unreachable as error:
            if time.monotonic() > deadline:
                raise RuntimeFailed(f"{PROGRAM} does not answer: {log.read_text()[-500:]}") from error
        else:
            if process.poll() is None:
                return
        if process.poll() is not None:
            words = log.read_text(errors="replace").strip().splitlines()[-1:]
            raise InvalidInput(
                f"{PROGRAM} does not start: {''.join(words)}", hint="choose another --port; --port 0 takes a free one"
            )
        time.sleep(POLL_INTERVAL)
