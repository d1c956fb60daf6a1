"""A registry for a class: Debian's docker-registry, over the images that are here.

One machine has the images, the others need no internet: they pull from it by its name, or have it as the
mirror of Docker's registry and use the images under the names that they always had.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from pylab_container.errors import ImageNotFound, InvalidInput, RuntimeFailed, Unreachable
from pylab_container.host import programs
from pylab_container.oci.reference import Reference
from pylab_container.registry.client import RegistryClient
from pylab_container.registry.push import copy
from pylab_container.registry.settings import RegistryEndpoint, is_loopback

if TYPE_CHECKING:
    from pylab_container.engine import Engine

PROGRAM = "docker-registry"
_STARTS = 60.0  # seconds; one that cannot start ends at once
_EVERYWHERE = "0.0.0.0"


class RegistryServer(Struct, frozen=True):
    """A registry that runs.

    host, port  where others find it
    names       what it has
    """

    host: str
    port: int
    names: tuple[Reference, ...]
    process: programs.Process[bytes]

    @property
    def is_local(self) -> bool:
        """Whether no other machine can reach it."""
        return is_loopback(self.host)

    def wait(self) -> int:
        """Until it ends; its exit status."""
        return self.process.wait()


@contextlib.contextmanager
def running(
    engine: Engine, images: Sequence[str], *, address: str, port: int, data: Path | None
) -> Iterator[RegistryServer]:
    """Run a registry while the block runs.

    images   names; none: all names that there are
    address  of the interface to listen on; "0.0.0.0" is all of them
    port     0: one that is free
    data     where it keeps what it has; None: only while it runs

    Raises MissingProgram, ImageNotFound, RuntimeFailed, and InvalidInput for a port that is taken.
    """
    chosen = _chosen(engine, images)
    port = _checked_port(address, port)
    with engine.data.scratch() as scratch:
        config = scratch / "config.yml"
        config.write_text(configuration(data.absolute() if data else scratch / "data", address, port))
        log = scratch / "log"
        with open(log, "wb") as output:
            # It ends with us, however we end.
            command = ["setpriv", "--pdeathsig=TERM", programs.find(PROGRAM), "serve", str(config)]
            process = programs.spawn(command, stdout=output.fileno(), stderr=output.fileno())
        try:
            local = "127.0.0.1" if address == _EVERYWHERE else address
            registry = RegistryClient(
                RegistryEndpoint(f"{local}:{port}", (f"http://{local}:{port}",)), engine.registries
            )
            with contextlib.closing(registry):
                _wait(registry, process, log)
                copy(engine, chosen, registry)
            names = tuple(name for name, _ in chosen)
            yield RegistryServer(_own_address() if address == _EVERYWHERE else address, port, names, process)
        finally:
            process.terminate()
            process.wait()


def _chosen(engine: Engine, images: Sequence[str]) -> list[tuple[Reference, str]]:
    """Names and image ids."""
    tags = engine.data.images.tags()
    if not images:
        return [(tag.reference, tag.image_id) for tag in tags]
    chosen = []
    for name in images:
        image = engine.images.get(name)
        named = [tag.reference for tag in tags if tag.image_id == image.id]
        if not named:
            raise ImageNotFound(f"the image {name} has no name to serve it by", hint=f"labctr tag {name} NAME:TAG")
        wanted = [reference for reference in named if reference.familiar in (name, f"{name}:latest")] or named
        chosen += [(reference, image.id) for reference in wanted]
    return chosen


def configuration(data: Path, address: str, port: int) -> str:
    """docker-registry's YAML, which JSON is, too. data: where it keeps what it has."""
    return json.dumps(
        {
            "version": "0.1",
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": str(data)}, "delete": {"enabled": True}},
            "http": {"addr": f"{address}:{port}"},
        }
    )


def free_port(address: str, port: int = 0) -> int:
    """The port if nobody listens on it, or for 0 one that is free. Raises OSError."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((address, port))
        return int(probe.getsockname()[1])


def _checked_port(address: str, port: int) -> int:
    """free_port(). Another registry on the port would be taken for ours."""
    try:
        return free_port(address, port)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        hint = "--port 0 takes a free one; ip addr lists the addresses of this machine"
        raise InvalidInput(f"cannot listen on {address}:{port}: {reason}", hint=hint) from error


def _own_address() -> str:
    """The address from which this machine reaches others; its name where it is on no network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("192.0.2.1", 9))  # an address for examples (RFC 5737); nothing is sent
        return str(probe.getsockname()[0])
    return socket.gethostname()


def _wait(registry: RegistryClient, process: programs.Process[bytes], log: Path) -> None:
    """Until it answers."""
    deadline = time.monotonic() + _STARTS
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
            raise InvalidInput(f"{PROGRAM} does not start: {''.join(words)}", hint="is the port taken? try --port 0")
        time.sleep(0.05)
