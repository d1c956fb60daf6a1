"""The sockets that the API is served on, and the daemon's beginning and end."""

from __future__ import annotations

import asyncio
import contextlib
import grp
import ipaddress
import logging
import os
import resource
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from aiohttp import web

from pylab_container.daemon.application import application
from pylab_container.daemon.connection import Connection
from pylab_container.daemon.request_log import RequestLog, beginnings, writing
from pylab_container.daemon.routes import ROUTES
from pylab_container.engine import Engine
from pylab_container.errors import Conflict, InvalidInput, RuntimeFailed
from pylab_container.host import linux

DEFAULT_ADDRESS = "unix:///run/labctr.sock"

_PORT = 2375
"""Docker's, where an address says none (IANA: docker)."""
_FIRST_PASSED = 3
"""The first descriptor that systemd passes (sd_listen_fds(3))."""
_LONGEST_LINE = 1 << 20  # bytes
_BACKLOG = 4096  # connections that wait to be accepted, as in Go: the kernel refuses more (net.core.somaxconn)
_GRACE = 2.0  # seconds that open requests get at the end; streams would never end by themselves


def serve(
    engine: Engine,
    addresses: Sequence[str] = (DEFAULT_ADDRESS,),
    *,
    group: str = "",
    request_log: Path | None = None,
    ready: Callable[[Sequence[str]], None] = lambda _: None,
) -> None:
    """Serve the API until SIGTERM or SIGINT. Containers run on.

    addresses    unix://PATH, tcp://127.0.0.1:PORT (loopback only: who may talk to the engine is root), or fd:// for the
                 sockets that systemd passes
    group        who else may use the unix socket, besides root
    request_log  gets two lines for each request (request_log.py)
    ready        called with the addresses once they can be connected to

    Raises InvalidInput for an address, Conflict where somebody serves there already.
    """
    _allow_connections()
    linux.share_one_arena()  # calls come and go in threads
    with contextlib.ExitStack() as stack:
        sockets = [one for address in addresses for one in stack.enter_context(_listening(address, group))]
        log = writing(request_log) if request_log else None
        asyncio.run(_serve(engine, sockets, log, lambda: ready(addresses)))


async def _serve(
    engine: Engine, sockets: Sequence[socket.socket], request_log: logging.Logger | None, ready: Callable[[], None]
) -> None:
    app = application(engine, ROUTES)
    if request_log:
        app.middlewares.append(beginnings(request_log))
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=_GRACE)
    await runner.setup()
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)

    def connection() -> Connection:
        return Connection(
            runner.server,
            loop=loop,
            access_log=request_log,
            access_log_class=RequestLog,
            logger=_http_logger(),
            # A build's parameters and credentials are in one line each; 1 MB is what Go's server takes (net/http).
            max_line_size=_LONGEST_LINE,
            max_field_size=_LONGEST_LINE,
            auto_decompress=False,  # what is compressed are archives, and the engine sees that by itself
        )

    try:
        servers = [await loop.create_server(connection, sock=one, backlog=_BACKLOG) for one in sockets]
        ready()
        await ended.wait()
        for server in servers:
            server.close()
    finally:
        await runner.cleanup()


def _allow_connections() -> None:
    """Each connection is a file, and so is much of what containers need: as many as the system lets us have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _http_logger() -> logging.Logger:
    """Where aiohttp says what it cannot understand. The client hears of that in an answer; nobody else needs to."""
    logger = logging.getLogger(f"{__name__}.http")
    logger.setLevel(logging.CRITICAL)
    return logger


@contextlib.contextmanager
def _listening(address: str, group: str) -> Iterator[list[socket.socket]]:
    """The sockets of an address; a unix socket's file is gone afterwards."""
    parts, port = _split(address)
    if parts.scheme == "fd":
        yield _passed()
    elif parts.scheme == "tcp":
        with _tcp(address, parts.hostname or "", port or _PORT) as one:
            yield [one]
    elif parts.scheme == "unix" and (parts.netloc + parts.path):
        path = Path(parts.netloc + parts.path)
        with _unix(path, group) as one:
            try:
                yield [one]
            finally:
                path.unlink(missing_ok=True)
    else:
        raise InvalidInput(f'invalid address "{address}"', hint="unix:///run/labctr.sock, or tcp://127.0.0.1:2375")


def _split(address: str) -> tuple[SplitResult, int | None]:
    try:
        parts = urlsplit(address)
        return parts, parts.port
    except ValueError as error:
        raise InvalidInput(f'invalid address "{address}": {error}', hint=DEFAULT_ADDRESS) from None


def _unix(path: Path, group: str) -> socket.socket:
    """A unix socket that its owner and group may use, and nobody else (mode 0660)."""
    owner = _group_id(group) if group else os.getegid()
    _remove_stale(path)
    one = socket.socket(socket.AF_UNIX)
    before = os.umask(0o777)  # nobody, until it has its owner
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        one.bind(str(path))
    except OSError as error:
        one.close()
        raise RuntimeFailed(f"cannot listen on {path}: {error.strerror}", hint="name another socket") from error
    finally:
        os.umask(before)
    os.chown(path, os.geteuid(), owner)
    os.chmod(path, 0o660)
    return one


def _remove_stale(path: Path) -> None:
    """Remove the socket of a daemon that is gone. Raises Conflict where one answers, InvalidInput for another file."""
    if not path.exists():
        return
    if not path.is_socket():
        raise InvalidInput(f"{path} is no socket", hint="name another place for the socket")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink(missing_ok=True)
            return
    raise Conflict(f"somebody listens on {path} already", hint="stop that daemon, or name another socket")


def _group_id(name: str) -> int:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise InvalidInput(f'there is no group "{name}"', hint=f"groupadd {name}") from None


def _tcp(address: str, host: str, port: int) -> socket.socket:
    """A TCP socket on loopback. Whoever reaches it is root on this machine, so it goes no further."""
    with contextlib.suppress(ValueError):
        if host == "localhost" or ipaddress.ip_address(host).is_loopback:
            try:
                return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
            except OSError as error:
                raise RuntimeFailed(
                    f"cannot listen on {address}: {error.strerror}", hint="is the port free?"
                ) from error
    raise InvalidInput(
        f'"{address}" is not on loopback', hint="use tcp://127.0.0.1:2375, and ssh to reach it from elsewhere"
    )


def _passed() -> list[socket.socket]:
    """The sockets that systemd passes to its service. Raises InvalidInput where it did not."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        raise InvalidInput("systemd has passed no socket", hint="fd:// is for the unit labctr.socket")
    count = int(os.environ.get("LISTEN_FDS", "0"))
    return [socket.socket(fileno=fd) for fd in range(_FIRST_PASSED, _FIRST_PASSED + count)]
