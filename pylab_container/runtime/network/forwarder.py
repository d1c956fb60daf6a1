"""The forwarder: a TCP proxy that accepts IPv6 connections to published ports for containers that have only IPv4.

nft's DNAT cannot change the address family. DNAT of connections to ::1 does not work either: the container's answer
would arrive on the bridge, where the kernel drops packets for ::1 (RFC 4291, 2.5.3). So nft rules redirect such
connections to this process. One process serves all containers of the host, while Docker starts a docker-proxy per port.

The process has no state about containers. For each connection it reads the original port from the kernel, and connects
to the same port of 127.0.0.1 with a mark on its packets. A rule of the container's table matches the mark and applies
DNAT to the container (rules.py). So the process can be killed and restarted at any time.

forwarding.py starts it as `python forwarder.py LOCK`. LOCK is a file descriptor that holds the lock, and the standard
input is the listening socket. It imports only the standard library, to start fast and to stay small.
"""

import contextlib
import os
import socket
import struct
import sys
import threading

MARK = 0x6C616263
"""The mark (SO_MARK, socket(7)) of the forwarder's packets: "labc" in ASCII."""

# IP6T_SO_ORIGINAL_DST in linux/netfilter_ipv6/ip6_tables.h. The value is a struct sockaddr_in6 (ipv6(7)).
_ORIGINAL_DESTINATION = 80
_SOCKADDR_IN6 = struct.Struct("!2sHI16sI")

_BUFFER_SIZE = 1 << 16  # bytes
_CONNECT_TIMEOUT = 10.0  # seconds that a container may take to accept


def serve(server: socket.socket) -> None:
    """Accept and forward connections, each in two threads, until the process is killed."""
    while True:
        connection, _ = server.accept()
        threading.Thread(target=_forward, args=(connection,), daemon=True).start()


def _forward(connection: socket.socket) -> None:
    # Any error ends this connection only: the client sees a reset, as it would from the container itself.
    with contextlib.suppress(OSError), connection, _connect(_original_port(connection)) as inner:
        inward = threading.Thread(target=_copy, args=(connection, inner), daemon=True)
        inward.start()
        _copy(inner, connection)
        inward.join()


def _original_port(connection: socket.socket) -> int:
    """The port to which the client connected. Raises OSError for a connection that no rule has redirected."""
    address = connection.getsockopt(socket.IPPROTO_IPV6, _ORIGINAL_DESTINATION, _SOCKADDR_IN6.size)
    port: int = _SOCKADDR_IN6.unpack(address)[1]
    # A connection to the forwarder's own port would be forwarded to that port again, without end.
    if port == connection.getsockname()[1]:
        raise ConnectionRefusedError("the connection was not redirected")
    return port


def _connect(port: int) -> socket.socket:
    inner = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        inner.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK)
        inner.settimeout(_CONNECT_TIMEOUT)
        inner.connect(("127.0.0.1", port))
        inner.settimeout(None)
    except BaseException:
        inner.close()
        raise
    return inner


def _copy(source: socket.socket, sink: socket.socket) -> None:
    """Copy bytes until end of file, then close the sink for writing. A broken connection is closed on both sides."""
    try:
        # sendall() blocks while the receiver is slow, and then so does the sender: back-pressure without a buffer.
        while chunk := source.recv(_BUFFER_SIZE):
            sink.sendall(chunk)
        # Half-closed: the other direction may still have data, as after a request of HTTP/1.0.
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        # Wakes up the thread of the other direction, which blocks in recv() or sendall().
        for broken in (source, sink):
            with contextlib.suppress(OSError):
                broken.shutdown(socket.SHUT_RDWR)


if __name__ == "__main__":
    _server = socket.socket(fileno=0)
    os.pwrite(int(sys.argv[1]), b"%d %d\n" % (_server.getsockname()[1], os.getpid()), 0)
    serve(_server)
