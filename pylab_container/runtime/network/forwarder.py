"""The forwarder: IPv6 connections to published ports, carried on to containers over IPv4.

The rules of nft lead a packet elsewhere, but never from one family to the other, and nobody away from ::1: the
answer would come in through the bridge, and from there the kernel takes nothing for ::1. So rules lead
such connections to this process, one for all containers of the machine; Docker has a docker-proxy for each port.

It knows of no container. It asks the kernel where a connection was going, and goes on to the same port of
127.0.0.1 with a mark on its packets; rules of the container's lead what bears that mark. So it
can be killed and started again at any time. forwarding.py starts and stops it, as a program of its own that
imports nothing of ours: `python forwarder.py LOCK`, where LOCK is a file descriptor that holds its lock, and
the standard input is the listening socket.
"""

import contextlib
import os
import socket
import struct
import sys
import threading

MARK = 0x6C616263
"""What its packets bear: "labc"."""

# linux/netfilter_ipv6/ip6_tables.h; the answer is a struct sockaddr_in6 (ipv6(7)).
_ORIGINAL_DESTINATION = 80
_SOCKADDR_IN6 = struct.Struct("!2sHI16sI")

_PIECE = 1 << 16  # bytes
_PATIENCE = 10.0  # seconds that a container may take to accept


def serve(server: socket.socket) -> None:
    """Carry connections on, each in threads of its own, until the process is killed."""
    while True:
        connection, _ = server.accept()
        threading.Thread(target=_carry, args=(connection,), daemon=True).start()


def _carry(connection: socket.socket) -> None:
    with contextlib.suppress(OSError), connection, _connect(_original_port(connection)) as inner:
        inward = threading.Thread(target=_copy, args=(connection, inner), daemon=True)
        inward.start()
        _copy(inner, connection)
        inward.join()


def _original_port(connection: socket.socket) -> int:
    """The port that was asked for before a rule led the connection here. Raises OSError where none did."""
    address = connection.getsockopt(socket.IPPROTO_IPV6, _ORIGINAL_DESTINATION, _SOCKADDR_IN6.size)
    port: int = _SOCKADDR_IN6.unpack(address)[1]
    if port == connection.getsockname()[1]:
        raise ConnectionRefusedError("somebody came here by himself")
    return port


def _connect(port: int) -> socket.socket:
    inner = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        inner.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK)
        inner.settimeout(_PATIENCE)
        inner.connect(("127.0.0.1", port))
        inner.settimeout(None)
    except BaseException:
        inner.close()
        raise
    return inner


def _copy(source: socket.socket, sink: socket.socket) -> None:
    """Bytes from one to the other, and then its end; a connection that breaks breaks on both sides."""
    try:
        while piece := source.recv(_PIECE):
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


if __name__ == "__main__":
    _server = socket.socket(fileno=0)
    os.pwrite(int(sys.argv[1]), b"%d %d\n" % (_server.getsockname()[1], os.getpid()), 0)
    serve(_server)
