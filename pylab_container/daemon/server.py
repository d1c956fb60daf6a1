"""The sockets of the API, and the start and shutdown of the daemon."""

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
from pylab_container.daemon.request_log import RequestLog, arrivals, open_request_log
from pylab_container.daemon.routes import ROUTES
from pylab_container.engine import Engine
from pylab_container.errors import Conflict, InvalidInput, RuntimeFailed
from pylab_container.host import linux

DEFAULT_ADDRESS = "unix:///run/labctr.sock"

DEFAULT_PORT = 2375  # TCP; registered for Docker with IANA
SD_LISTEN_FDS_START = 3  # the first descriptor that systemd passes, sd_listen_fds(3)
MAX_LINE_SIZE = 1 << 20  # bytes of a request line or header
BACKLOG = 4096  # pending connections, as in Go; the kernel's limit is net.core.somaxconn
SHUTDOWN_TIMEOUT = 2.0  # seconds that open requests get at shutdown; streams would never end by themselves


def serve(
    engine: Engine,
    addresses: Sequence[str] = (DEFAULT_ADDRESS,),
    *,
    group: str = "",
    request_log: Path | None = None,
    ready: Callable[[Sequence[str]], None] = lambda _: None,
) -> None:
    """Serve the API until SIGTERM or SIGINT. Containers continue to run.

    addresses    unix://PATH, tcp://127.0.0.1:PORT (loopback only: a client of the engine can become root), or fd:// for
                 the sockets that systemd passes
    group        the group that may use the unix socket, besides root
    request_log  file for two lines about each request (request_log.py)
    ready        called with the addresses once they accept connections

    Raises InvalidInput for an address that cannot be served, Conflict if another daemon serves there.
    """
    _raise_descriptor_limit()
    linux.share_one_arena()  # short-lived threads would leave one malloc arena each
    with contextlib.ExitStack() as stack:
        sockets = [opened for address in addresses for opened in stack.enter_context(_listening(address, group))]
        log = open_request_log(request_log) if request_log else None
        asyncio.run(_serve(engine, sockets, log, lambda: ready(addresses)))


async def _serve(
    engine: Engine, sockets: Sequence[socket.socket], request_log: logging.Logger | None, ready: Callable[[], None]
) -> None:
    app = application(engine, ROUTES)
    if request_log:
        app.middlewares.append(arrivals(request_log))
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=SHUTDOWN_TIMEOUT)
    await runner.setup()
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)

    def connection() -> Connection:
        return Connection(
            runner.server,
            loop=loop,
            access_log=request_log,
            access_log_class=RequestLog,
            logger=_http_logger(),
            # The parameters of a build are one line, and its credentials are another; Go's net/http accepts 1 MB.
            max_line_size=MAX_LINE_SIZE,
            max_field_size=MAX_LINE_SIZE,
            auto_decompress=False,  # compressed bodies are archives, whose compression the engine detects
        )

    try:
        servers = [await loop.create_server(connection, sock=listener, backlog=BACKLOG) for listener in sockets]
        ready()
        await stopped.wait()
        for server in servers:
            server.close()
    finally:
        await runner.cleanup()


def _raise_descriptor_limit() -> None:
    """Raise the soft limit of open files to the hard limit.

    Each connection and each container needs descriptors.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _http_logger() -> logging.Logger:
    """Return a silent logger for aiohttp.

    aiohttp logs malformed requests, whose clients get an answer.
    """
    logger = logging.getLogger(f"{__name__}.http")
    logger.setLevel(logging.CRITICAL)
    return logger


@contextlib.contextmanager
def _listening(address: str, group: str) -> Iterator[list[socket.socket]]:
    """Yield the sockets of an address. The file of a unix socket is removed after the block."""
    parts, port = _split(address)
    if parts.scheme == "fd":
        yield _passed_sockets()
    elif parts.scheme == "tcp":
        with _tcp(address, parts.hostname or "", port or DEFAULT_PORT) as listener:
            yield [listener]
    elif parts.scheme == "unix" and (parts.netloc + parts.path):
        path = Path(parts.netloc + parts.path)
        with _unix(path, group) as listener:
            try:
                yield [listener]
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
    """Return a unix socket that only its owner and group may use (mode 0660)."""
    group_id = _group_id(group) if group else os.getegid()
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX)
    before = os.umask(0o777)  # no access before chown() and chmod(): another user could connect
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        raise RuntimeFailed(f"cannot listen on {path}: {error.strerror}", hint="choose another socket") from error
    finally:
        os.umask(before)
    os.chown(path, os.geteuid(), group_id)
    os.chmod(path, 0o660)
    return listener


def _remove_stale(path: Path) -> None:
    """Remove a stale socket.

    Raises Conflict if a daemon answers on it, InvalidInput for another file.
    """
    if not path.exists():
        return
    if not path.is_socket():
        raise InvalidInput(f"{path} is not a socket", hint="choose another path for the socket")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink(missing_ok=True)
            return
    raise Conflict(f"another process listens on {path}", hint="stop that daemon, or choose another socket")


def _group_id(name: str) -> int:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise InvalidInput(f'unknown group "{name}"', hint=f"groupadd {name}") from None


def _tcp(address: str, host: str, port: int) -> socket.socket:
    """Return a TCP socket on a loopback address: its clients can become root on this machine."""
    with contextlib.suppress(ValueError):
        if host == "localhost" or ipaddress.ip_address(host).is_loopback:
            try:
                return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
            except OSError as error:
                raise RuntimeFailed(
                    f"cannot listen on {address}: {error.strerror}", hint="choose a free port"
                ) from error
    raise InvalidInput(
        f'"{address}" is not on loopback', hint="use tcp://127.0.0.1:2375, and ssh to reach it from elsewhere"
    )


def _passed_sockets() -> list[socket.socket]:
    """Return the sockets that systemd passed to this service. Raises InvalidInput if it passed no socket."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        raise InvalidInput("systemd has passed no socket", hint="fd:// is for the unit labctr.socket")
    count = int(os.environ.get("LISTEN_FDS", "0"))
    return [socket.socket(fileno=fd) for fd in range(SD_LISTEN_FDS_START, SD_LISTEN_FDS_START + count)]
