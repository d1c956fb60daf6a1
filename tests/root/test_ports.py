"""Published ports on real sockets: reachability from each side, conflicts with other listeners, and clean-up."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pylab_container import Engine
from pylab_container.engine.containers import Container
from pylab_container.engine.networks import Network
from pylab_container.errors import Conflict, InvalidInput, RuntimeFailed
from pylab_container.host.files import try_locked
from pylab_container.images.image import Image
from tests.support.network import fetch, free_port, get, inside, ip
from tests.support.processes import kill_container
from tests.support.waiting import PATIENCE, eventually

pytestmark = pytest.mark.shared_engine

FORWARDER = Path("/run/pylab-container/forwarder")
SERVER = ["sh", "-c", "mkdir /tmp/www; hostname > /tmp/www/index.html; exec httpd -f -p 80 -h /tmp/www"]

Serve = Callable[..., Container]


@pytest.fixture
def serve(engine: Engine, image: Image) -> Serve:
    """Start a web server that answers with its host name."""

    def start(port: Any = None, **options: Any) -> Container:
        return engine.containers.run_detached(image, SERVER, ports={"80/tcp": port}, **options)

    return start


@pytest.fixture
def network(engine: Engine) -> Iterator[Network]:
    made = engine.networks.create("web")
    yield made
    for container in engine.containers.list(all=True):
        container.remove(force=True)
    made.remove()


def get_inside(container: Container, address: str) -> str:
    return container.exec_run(["timeout", "20", "wget", "-qO-", f"http://{address}/"]).output.decode().strip()


def has_rules(container: Container) -> bool:
    listed = subprocess.run(["nft", "list", "tables"], check=True, capture_output=True, text=True).stdout
    return f"labctr_ports_{container.short_id}" in listed


def host_address() -> str:
    """An address of the host that is not on its loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # which sends nothing
        return str(probe.getsockname()[0])


# -- who reaches it -----------------------------------------------------------------------------


@pytest.mark.smoke
def test_the_host_reaches_it_on_loopback_and_on_its_address(serve: Serve) -> None:
    port = free_port()
    container = serve(port)
    for host in ("127.0.0.1", "localhost", host_address(), "172.17.0.1", "[::1]"):
        assert get(f"{host}:{port}") == container.short_id
    assert container.ports == {"80/tcp": [{"HostIp": host, "HostPort": str(port)} for host in ("0.0.0.0", "::")]}


def test_containers_reach_it_on_the_hosts_address_wherever_they_are(
    engine: Engine, image: Image, serve: Serve, network: Network
) -> None:
    port = free_port()
    server = serve(port, network="web")
    get(f"127.0.0.1:{port}")
    for elsewhere in ("bridge", "web"):
        other = engine.containers.run_detached(image, ["sleep", "600"], network=elsewhere)
        assert get_inside(other, f"{host_address()}:{port}") == server.short_id
    assert get_inside(server, f"{host_address()}:{port}") == server.short_id  # also itself


def test_one_address_of_the_host_is_not_the_others(serve: Serve) -> None:
    port = free_port()
    container = serve(("127.0.0.1", port))
    assert get(f"127.0.0.1:{port}") == container.short_id
    with pytest.raises(urllib.error.URLError):
        fetch(f"{host_address()}:{port}")
    assert container.ports["80/tcp"] == [{"HostIp": "127.0.0.1", "HostPort": str(port)}]


def test_what_is_published_on_loopback_no_container_reaches(engine: Engine, image: Image, serve: Serve) -> None:
    port = free_port()
    serve(("127.0.0.1", port))
    get(f"127.0.0.1:{port}")
    other = engine.containers.run_detached(image, ["sleep", "600"])
    assert "refused" in get_inside(other, f"172.17.0.1:{port}")


def test_ipv6_alone_is_published_and_ipv4_is_not(serve: Serve) -> None:
    ports = [free_port(), free_port()]
    local, everywhere = serve(("::1", ports[0])), serve(("::", ports[1]))
    assert [get(f"[::1]:{port}") for port in ports] == [local.short_id, everywhere.short_id]
    assert local.ports["80/tcp"] == [{"HostIp": "::1", "HostPort": str(ports[0])}]
    for port in ports:
        with pytest.raises(urllib.error.URLError):
            fetch(f"127.0.0.1:{port}")


def test_one_port_may_be_one_containers_on_ipv4_and_anothers_on_ipv6(serve: Serve) -> None:
    port = free_port()
    four, six = serve(("0.0.0.0", port)), serve(("::", port))
    for _ in range(3):
        assert (get(f"127.0.0.1:{port}"), get(f"[::1]:{port}")) == (four.short_id, six.short_id)
    with pytest.raises(Conflict, match="port is already allocated"):
        serve(("::1", port))


def test_a_large_answer_comes_through_ipv6_whole_and_after_the_askers_end(engine: Engine, image: Image) -> None:
    port = free_port()
    script = "nc -l -p 80 -e sh -c 'cat > /dev/null; dd if=/dev/zero bs=1M count=20 2> /dev/null'"
    container = engine.containers.run_detached(image, ["sh", "-c", script], ports={"80/tcp": port})
    eventually(lambda: b":80 " in container.exec_run(["netstat", "-ltn"]).output)
    with socket.create_connection(("::1", port), timeout=PATIENCE) as client:
        client.sendall(b"the question" * 100_000)
        client.shutdown(socket.SHUT_WR)
        received = 0
        while piece := client.recv(1 << 16):
            received += len(piece)
    assert received == 20 << 20


def forwarder() -> int:
    """Return the pid of the forwarder, 0 if it does not run."""
    with contextlib.suppress(FileNotFoundError), try_locked(FORWARDER) as alone:
        return 0 if alone else int(FORWARDER.read_text().split()[1])
    return 0


def test_the_forwarder_goes_with_the_last_port_and_comes_back_where_it_was(serve: Serve) -> None:
    port, other = free_port(), free_port()
    first = serve(port)
    assert get(f"[::1]:{port}") == first.short_id
    place, pid = FORWARDER.read_text().split()
    os.kill(int(pid), signal.SIGKILL)
    eventually(lambda: not forwarder())
    with pytest.raises(urllib.error.URLError):
        fetch(f"[::1]:{port}")
    second = serve(other)
    assert [get(f"[::1]:{one}") for one in (port, other)] == [first.short_id, second.short_id]
    assert FORWARDER.read_text().split()[0] == place
    first.remove(force=True)
    assert get(f"[::1]:{other}") == second.short_id
    second.remove(force=True)
    assert not FORWARDER.exists()


def test_the_forwarder_does_not_listen_on_a_published_port(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may choose a published port for the forwarder, because no socket is bound to it.

    Connections to that port are redirected to the container, so the forwarder would never accept one.
    """
    port, create = free_port(), socket.create_server
    offered = iter([port])

    def create_server(address: tuple[str, int], **options: Any) -> socket.socket:
        return create((address[0], address[1] or next(offered, 0)), **options)

    monkeypatch.setattr(socket, "create_server", create_server)
    container = serve(port)
    assert FORWARDER.read_text().split()[0] != str(port)
    assert get(f"[::1]:{port}") == container.short_id


def test_a_direct_connection_to_the_forwarder_reaches_nothing(serve: Serve) -> None:
    port = free_port()
    serve(port)
    get(f"[::1]:{port}")
    with socket.create_connection(("::1", int(FORWARDER.read_text().split()[0])), timeout=PATIENCE) as client:
        assert client.recv(1) == b""


def test_udp_over_ipv6_to_a_container_without_it_is_refused(engine: Engine, image: Image) -> None:
    for host in ("::", "::1"):
        with pytest.raises(InvalidInput, match="only TCP is led from IPv6 to IPv4"):
            engine.containers.run_detached(image, ["sleep", "600"], ports={"53/udp": (host, free_port())})


def test_udp_is_published_too(engine: Engine, image: Image) -> None:
    port = free_port()
    container = engine.containers.run_detached(image, ["sleep", "600"], ports={"53/udp": port})
    server = inside(container.pid, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        server.bind(("0.0.0.0", 53))
        for one in (server, client):
            one.settimeout(PATIENCE)
        client.connect(("127.0.0.1", port))
        client.send(b"hello")
        text, asker = server.recvfrom(100)
        server.sendto(text.upper(), asker)
        assert client.recv(100) == b"HELLO"
    assert container.ports == {"53/udp": [{"HostIp": "0.0.0.0", "HostPort": str(port)}]}


def test_an_address_that_the_host_lacks_is_reported(serve: Serve) -> None:
    for address in ("203.0.113.9", "2001:db8::9"):
        with pytest.raises(RuntimeFailed, match=re.escape(address)):
            serve((address, free_port()))


def test_the_machine_chooses_a_port_if_the_user_does_not(serve: Serve) -> None:
    first, second = serve(), serve()
    ports = [int(one.ports["80/tcp"][0]["HostPort"]) for one in (first, second)]
    assert ports[0] != ports[1]
    assert [get(f"127.0.0.1:{port}") for port in ports] == [first.short_id, second.short_id]


def test_publish_all_takes_the_exposed_ports(engine: Engine, image: Image) -> None:
    container = engine.containers.run_detached(
        image, SERVER, exposed_ports=["80/tcp", "53/udp"], publish_all_ports=True
    )
    assert sorted(container.ports) == ["53/udp", "80/tcp"]
    assert get(f"127.0.0.1:{container.ports['80/tcp'][0]['HostPort']}") == container.short_id


def test_a_port_that_is_only_exposed_is_not_published(engine: Engine, image: Image) -> None:
    container = engine.containers.run_detached(image, SERVER, exposed_ports=["80/tcp"])
    assert container.ports == {"80/tcp": None}
    assert not has_rules(container)


# -- who is in the way --------------------------------------------------------------------------


def test_a_port_of_another_container_is_taken(engine: Engine, serve: Serve) -> None:
    port = free_port()
    first = serve(port)
    with pytest.raises(Conflict, match=rf"Bind for 0\.0\.0\.0:{port} failed: port is already allocated"):
        serve(port, name="second")
    with pytest.raises(Conflict, match=rf"Bind for 127\.0\.0\.1:{port} failed"):
        serve(("127.0.0.1", port))
    second = engine.containers.get("second")
    assert (second.status, second.address) == ("created", "")
    first.remove(force=True)
    second.start()
    assert get(f"127.0.0.1:{port}") == second.short_id


@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1"])
def test_a_port_of_a_program_of_the_host_is_taken(serve: Serve, address: str) -> None:
    port = free_port()
    words = rf"Bind for 0\.0\.0\.0:{port} failed: port is already allocated"
    with socket.create_server((address, port)), pytest.raises(Conflict, match=words):
        serve(port)
    container = serve(port)
    assert get(f"127.0.0.1:{port}") == container.short_id


def test_tcp_and_udp_and_other_addresses_do_not_meet(engine: Engine, image: Image, serve: Serve) -> None:
    port = free_port()
    serve(("127.0.0.1", port))
    serve(("127.0.0.2", port))
    engine.containers.run_detached(image, ["sleep", "600"], ports={"53/udp": port})


def test_a_range_gives_the_first_free_one(engine: Engine, image: Image) -> None:
    first = next(port for port in range(20000, 30000, 7) if _all_free(port, 3))
    bindings = {"80/tcp": [{"HostIp": "", "HostPort": f"{first}-{first + 1}"}]}
    got = []
    for _ in range(2):
        container = engine.containers.run_detached(image, SERVER, ports=bindings)
        got.append(int(container.ports["80/tcp"][0]["HostPort"]))
    assert got == [first, first + 1]
    with pytest.raises(Conflict, match="all ports are allocated"):
        engine.containers.run_detached(image, SERVER, ports=bindings)


def _all_free(first: int, count: int) -> bool:
    for port in range(first, first + count):
        try:
            socket.create_server(("0.0.0.0", port)).close()
        except OSError:
            return False
    return True


# -- what is left -------------------------------------------------------------------------------


def test_the_rules_go_with_the_container(serve: Serve) -> None:
    port = free_port()
    container = serve(port)
    assert has_rules(container)
    container.stop(timeout=0)
    assert not has_rules(container)
    assert container.ports == {}
    container.start()
    assert get(f"127.0.0.1:{port}") == container.short_id
    container.remove(force=True)
    assert not has_rules(container)


def wait_for_veth_to_go(container: Container) -> None:
    """The kernel removes it asynchronously."""
    eventually(lambda: not any(container.id in link.get("ifalias", "") for link in ip("link")))


def test_after_a_crash_the_next_container_removes_the_rules(engine: Engine, image: Image, serve: Serve) -> None:
    container = serve(free_port())
    kill_container(engine, container)
    wait_for_veth_to_go(container)
    assert has_rules(container)
    engine.containers.run(image, ["true"])
    assert not has_rules(container)


def test_after_a_crash_rm_removes_the_rules_and_the_port_is_free(engine: Engine, serve: Serve) -> None:
    port = free_port()
    container = serve(port)
    kill_container(engine, container)
    container.remove(force=True)
    assert not has_rules(container)
    container = serve(port)
    assert get(f"127.0.0.1:{port}") == container.short_id
