"""The name server of users' networks, asked from inside containers by nslookup, ping and messages of our own."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from dnslib import EDNS0, QTYPE, RCODE, RR, A, DNSRecord
from dnslib.server import DNSHandler, DNSServer

from pylab_container import Engine
from pylab_container.engine.containers import Container
from pylab_container.engine.networks import Network
from pylab_container.errors import RuntimeFailed
from pylab_container.images.image import Image
from pylab_container.runtime.dns import service
from tests.support.api import serving
from tests.support.commands import Labctr
from tests.support.network import inside, lookup
from tests.support.processes import kill_container, pids
from tests.support.waiting import PATIENCE, eventually

pytestmark = pytest.mark.shared_engine

Start = Callable[..., Container]


RESOLVER = "pylab_container.runtime.dns.resolver"


@pytest.fixture
def start(engine: Engine, image: Image) -> Start:
    """Start a container that sleeps, or runs a command."""

    def run(command: list[str] | None = None, **options: Any) -> Container:
        container: Container = engine.containers.run_detached(image, command or ["sleep", "600"], **options)
        return container

    return run


@pytest.fixture
def web(engine: Engine) -> Network:
    return engine.networks.create("web")


@pytest.fixture
def client(web: Network, start: Start) -> Container:
    return start(network="web", name="client")


def read(container: Container, path: str) -> str:
    return container.exec_run(["cat", path]).output.decode()


@pytest.fixture
def tuned(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Give name servers that this process starts from now on other constants: tuned(_CONNECTION_TIMEOUT=0.5).

    Use it with an engine of the test's own: a name server outlives its last container by a second.
    """

    def set_constants(**constants: float) -> None:
        script = "import asyncio, pathlib, socket, sys; from pylab_container.runtime.dns import resolver\n"
        script += "".join(f"resolver.{name} = {value}\n" for name, value in constants.items())
        script += "server = resolver.Resolver(pathlib.Path(sys.argv[2]))\n"
        script += "asyncio.run(server.run(socket.socket(fileno=0)))"
        command = [sys.executable, "-c", script, RESOLVER]
        monkeypatch.setattr(service.NameServer, "_command", lambda server: [*command, str(server._directory)])

    return set_constants


def asking_socket(container: Container) -> socket.socket:
    """A datagram socket in the container's network, connected to its name server."""

    def connected() -> socket.socket:
        asker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        asker.settimeout(PATIENCE)
        asker.connect(("127.0.0.11", 53))
        return asker

    return inside(container.pid, connected)


def send(container: Container, wire: bytes) -> DNSRecord:
    """Send bytes from the container's network to its name server, and return the answer."""
    with asking_socket(container) as asker:
        asker.send(wire)
        return DNSRecord.parse(asker.recv(65535))


def ask(container: Container, name: str, kind: str = "A") -> DNSRecord:
    return send(container, bytes(DNSRecord.question(name, kind).pack()))


def resolver(engine: Engine) -> int:
    """Return the pid of the name server's process, 0 if it does not run."""
    return next(iter(pids(f"{RESOLVER} {engine.runtime.path / 'names'}")), 0)


def kill(pid: int) -> None:
    """Kill the name server, and wait until it has exited: its lock is held longer than its command line is visible."""
    process = os.pidfd_open(pid)
    try:
        os.kill(pid, signal.SIGKILL)
        assert select.select([process], [], [], PATIENCE)[0]
    finally:
        os.close(process)


# -- who is called what -------------------------------------------------------------------------


@pytest.mark.smoke
def test_containers_find_each_other_by_every_name_they_have(web: Network, start: Start, client: Container) -> None:
    server = start(network="web", name="Server", hostname="box", network_aliases=["www", "shop"])
    for name in ("Server", "SERVER", server.short_id, "box", "www", "shop", "www.web", "server.web"):
        assert lookup(client, name) == [server.address], name
        assert client.exec_run(["ping", "-c", "1", "-W", "10", name]).exit_code == 0
    assert server.attrs["NetworkSettings"]["Networks"]["web"]["Aliases"] == ["www", "shop", server.short_id, "box"]
    assert lookup(client, "www.elsewhere") == lookup(client, "nobody") == []
    assert lookup(client, "client") == [client.address]


def test_one_alias_of_several_means_all_of_them_in_turn(web: Network, start: Start, client: Container) -> None:
    pool = [start(network="web", network_aliases=["pool"]) for _ in range(3)]
    answers = [[str(answer.rdata) for answer in ask(client, "pool").rr] for _ in range(40)]
    assert {tuple(sorted(found)) for found in answers} == {tuple(sorted(str(one.address) for one in pool))}
    assert {found[0] for found in answers} == {one.address for one in pool}


def test_a_links_alias_is_known_to_one_alone(web: Network, start: Start, client: Container) -> None:
    server = start(network="web", name="server")
    linked = start(network="web", links={"server": "database", "later": "client"})
    assert lookup(linked, "database") == [server.address]
    assert lookup(client, "database") == []
    assert lookup(linked, "client") == []  # the link leads nowhere yet, and hides the other one
    later = start(network="web", name="later")
    assert lookup(linked, "client") == [later.address]


def test_an_address_has_a_name(web: Network, start: Start, client: Container) -> None:
    server = start(network="web", name="server", network_aliases=["www"])
    told = client.exec_run(["nslookup", str(server.address)]).output.decode()
    assert "name = server.web" in told


def test_names_are_for_those_on_the_same_network(engine: Engine, web: Network, start: Start, client: Container) -> None:
    other = engine.networks.create("other")
    stranger = start(network="other", name="stranger")
    assert lookup(client, "stranger") == lookup(client, "stranger.other") == lookup(stranger, "client") == []
    other.connect(client, aliases=["guest"])
    assert lookup(client, "stranger") == lookup(client, "stranger.other") == [stranger.address]
    own = client.attrs["NetworkSettings"]["Networks"]["other"]["IPAddress"]
    assert lookup(stranger, "guest") == lookup(stranger, "client") == [own]
    assert f"{own}\t{client.short_id}" in read(client, "/etc/hosts")
    other.disconnect(client)
    assert lookup(client, "stranger") == lookup(stranger, "guest") == []
    assert own not in read(client, "/etc/hosts")
    assert lookup(client, "client") == [client.address]


def test_a_name_goes_with_its_container_and_comes_back(web: Network, start: Start, client: Container) -> None:
    server = start(network="web", name="server")
    assert lookup(client, "server") == [server.address]
    server.stop(timeout=0)
    assert lookup(client, "server") == []
    server.start()
    assert lookup(client, "server") == [server.address]
    server.restart(timeout=0)
    assert lookup(server, "client") == [client.address]
    server.rename("renamed")
    assert lookup(client, "renamed") == [server.address]
    assert lookup(client, "server") == []
    server.remove(force=True)
    assert lookup(client, "renamed") == []


def test_a_crashed_container_gives_name_and_address_back(
    engine: Engine, web: Network, start: Start, client: Container
) -> None:
    server = start(network="web", name="server")
    address = server.address
    kill_container(engine, server)
    eventually(lambda: server.id not in [one.container_id for one in web.bridge.endpoints()])
    assert lookup(client, "server") == []
    third = start(network="web", name="third")
    assert third.address == address
    assert lookup(client, "third") == [address]


# -- files of /etc ------------------------------------------------------------------------------


def test_hosts_holds_the_engines_lines_and_those_of_the_container(engine: Engine, web: Network, start: Start) -> None:
    client = start(network="web", name="client", hostname="box", domainname="lab", extra_hosts={"db": "192.0.2.9"})
    client.exec_run(["sh", "-c", "echo '10.9.8.7 mine' >> /etc/hosts"])
    start(network="web", name="server")
    lines = read(client, "/etc/hosts").splitlines()
    assert lines[-3:] == ["192.0.2.9\tdb", f"{client.address}\tbox.lab box", "10.9.8.7 mine"]
    assert client.exec_run(["ping", "-c", "1", "-W", "10", "box.lab"]).exit_code == 0


def test_a_container_asks_us_from_the_first_network_with_names_on(engine: Engine, web: Network, start: Start) -> None:
    server, guest = start(network="web", name="server"), start(name="guest", dns_search=["lab.test"])
    before = read(guest, "/etc/resolv.conf")
    assert "127.0.0.11" not in before
    web.connect(guest)
    ours = "search lab.test\nnameserver 127.0.0.11\noptions ndots:0\n"
    assert read(guest, "/etc/resolv.conf") == ours
    assert lookup(guest, "server.") == [server.address]
    web.disconnect(guest)
    assert read(guest, "/etc/resolv.conf") == ours  # as with Docker: unchanged until the container exits
    assert lookup(guest, "server.") == []
    guest.restart(timeout=0)
    assert read(guest, "/etc/resolv.conf") == before


def test_who_joins_a_containers_network_asks_its_name_server(web: Network, start: Start, client: Container) -> None:
    server = start(network="web", name="server")
    guest = start(network_mode="container:client")
    assert read(guest, "/etc/resolv.conf") == read(client, "/etc/resolv.conf")
    assert lookup(guest, "server") == [server.address]


def test_a_remapped_container_asks_as_all_do(web: Network, start: Start, client: Container) -> None:
    remapped = start(network="web", userns_mode="remap")
    assert lookup(remapped, "client") == [client.address]


def test_a_container_may_have_a_name_server_of_its_own(web: Network, start: Start, client: Container) -> None:
    server = start(network="web", name="server")
    with inside(server.pid, lambda: socket.create_server(("0.0.0.0", 53))) as stream:
        inside(client.pid, lambda: socket.create_connection((server.address, 53), PATIENCE)).close()
        accepted, (peer, _) = stream.accept()
        accepted.close()
        assert peer == client.address
    with inside(server.pid, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as datagrams:
        datagrams.bind(("0.0.0.0", 53))
        assert lookup(server, "client") == [client.address]
        datagrams.settimeout(PATIENCE)
        asking = client.exec_create(["nslookup", "client", str(server.address)])
        asking.start_detached()
        assert datagrams.recvfrom(100)[1][0] == client.address
        asking.kill()
        asking.wait()


# -- what others know ---------------------------------------------------------------------------


class Upstream:
    """A name server: NUMBER.test is 192.0.2.NUMBER, refused.test is refused, silent.test gets no answer."""

    def __init__(self, address: str) -> None:
        self.asked: list[DNSRecord] = []
        self.servers = [DNSServer(self, address=address, port=53, tcp=tcp, logger=Quiet()) for tcp in (False, True)]
        for server in self.servers:
            server.start_thread()

    def resolve(self, question: DNSRecord, handler: DNSHandler) -> DNSRecord:
        self.asked.append(question)
        name = str(question.q.qname)
        if name == "silent.test.":
            raise ConnectionError("no answer")
        reply = question.reply()
        if name == "refused.test.":
            reply.header.rcode = RCODE.REFUSED
        elif question.q.qtype == QTYPE.A:
            reply.add_answer(RR(question.q.qname, QTYPE.A, rdata=A(f"192.0.2.{name.split('.')[0]}")))
        return reply

    def stop(self) -> None:
        for server in self.servers:
            server.server.shutdown()
            server.server.server_close()


class Quiet:
    """dnslib's logger that logs nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


@pytest.fixture
def gateway(web: Network) -> str:
    return str(web.attrs["IPAM"]["Config"][0]["Gateway"])


@pytest.fixture
def upstream(gateway: str) -> Iterator[Upstream]:
    """A name server on the address of the network's gateway."""
    made = Upstream(gateway)
    yield made
    made.stop()


def test_other_servers_are_asked_for_names_that_no_container_has(
    web: Network, start: Start, gateway: str, upstream: Upstream
) -> None:
    asker = start(network="web", dns=[gateway], name="asker")
    assert lookup(asker, "7.test") == ["192.0.2.7"]
    assert lookup(asker, "asker") == [asker.address]
    assert [str(one.q.qname) for one in upstream.asked] == ["7.test."]
    question = DNSRecord.question("8.test", "A")
    question.add_ar(EDNS0(udp_len=1400, flags="do"))
    assert str(send(asker, bytes(question.pack())).rr[0].rdata) == "192.0.2.8"
    assert upstream.asked[-1].ar[0].rclass == 1400
    connect = partial(DNSRecord.question("9.test").send, "127.0.0.11", 53, tcp=True, timeout=PATIENCE)
    assert str(DNSRecord.parse(inside(asker.pid, connect)).rr[0].rdata) == "192.0.2.9"
    connect = partial(DNSRecord.question("asker").send, "127.0.0.11", 53, tcp=True, timeout=PATIENCE)
    assert str(DNSRecord.parse(inside(asker.pid, connect)).rr[0].rdata) == asker.address


def test_the_next_server_is_asked_where_one_refuses_or_is_not_there(
    web: Network, start: Start, gateway: str, upstream: Upstream
) -> None:
    silent = start(network="web", name="silent")  # no process listens there
    asker = start(network="web", dns=[str(silent.address), gateway])
    assert lookup(asker, "7.test") == ["192.0.2.7"]
    assert ask(asker, "refused.test").header.rcode == RCODE.REFUSED


@pytest.mark.own_engine
def test_a_server_that_is_silent_is_given_up(
    web: Network, start: Start, gateway: str, upstream: Upstream, tuned: Callable[..., None]
) -> None:
    tuned(_UPSTREAM_TIMEOUT=0.5)  # seconds
    asker = start(network="web", dns=[gateway], name="asker")
    with ThreadPoolExecutor(3) as threads:
        silent = [threads.submit(ask, asker, "silent.test") for _ in range(3)]
        assert [one.result().header.rcode for one in silent] == [RCODE.SERVFAIL] * 3


@pytest.mark.own_engine
def test_questions_do_not_wait_for_the_answers_to_others(
    web: Network, start: Start, gateway: str, upstream: Upstream, tuned: Callable[..., None]
) -> None:
    tuned(_UPSTREAM_TIMEOUT=3600.0)  # seconds: no question to the silent server ends before the test
    asker = start(network="web", dns=[gateway], name="asker")
    with asking_socket(asker) as waiting:
        for _ in range(30):
            waiting.send(bytes(DNSRecord.question("silent.test").pack()))
        eventually(lambda: len([one for one in upstream.asked if str(one.q.qname) == "silent.test."]) == 30)
        loud = {n: str(ask(asker, f"{n}.test").rr[0].rdata) for n in range(1, 30)}
        assert loud == {n: f"192.0.2.{n}" for n in loud}
        assert lookup(asker, "asker") == [asker.address]


def test_single_names_stay_here_where_others_want_dots(
    web: Network, start: Start, gateway: str, upstream: Upstream
) -> None:
    asker = start(network="web", dns=[gateway], dns_opt=["ndots:1"])
    assert "options ndots:1" in read(asker, "/etc/resolv.conf")
    reply = ask(asker, "7")
    assert (reply.header.rcode, reply.rr) == (RCODE.NOERROR, [])
    assert upstream.asked == []


def test_an_internal_network_asks_no_server_outside(
    engine: Engine, start: Start, gateway: str, upstream: Upstream
) -> None:
    engine.networks.create("inner", internal=True)
    server = start(network="inner", name="server")
    asker, guest = (start(network=name, dns=[gateway]) for name in ("inner", "web"))
    assert lookup(asker, "server") == [server.address]
    assert lookup(guest, "7.test") == ["192.0.2.7"]
    assert ask(asker, "7.test").header.rcode == RCODE.SERVFAIL
    assert len(upstream.asked) == 1


def test_a_server_on_the_hosts_loopback_is_asked_from_the_host(
    engine: Engine, web: Network, command: list[str], image: Image, tmp_path: Path, repository: Path
) -> None:
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.253\nsearch lab.test\n")
    upstream = Upstream("127.0.0.253")
    engine.networks.create("inner", internal=True)
    script = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'  # a host of its own, as far as that file goes
    host = ["unshare", "--mount", "sh", "-c", script, str(tmp_path / "resolv.conf"), *command]
    try:
        for network, found in (("web", True), ("inner", False)):
            run = [*host, "run", "--rm", "--network", network, "busybox:1", "sh", "-c"]
            run.append("cat /etc/resolv.conf; nslookup -type=a 7.test.")
            told = subprocess.run(run, capture_output=True, text=True, cwd=repository, check=False).stdout
            assert told.startswith("search lab.test\nnameserver 127.0.0.11\noptions ndots:0\n")
            assert ("Address: 192.0.2.7" in told) == found
            eventually(lambda: not resolver(engine))  # the next iteration needs a new process, with its own mounts
    finally:
        upstream.stop()


@pytest.mark.own_engine
def test_nonsense_is_not_answered_and_does_no_harm(web: Network, start: Start, tuned: Callable[..., None]) -> None:
    tuned(_CONNECTION_TIMEOUT=0.5)  # seconds
    client = start(network="web", name="client")
    question = bytes(DNSRecord.question("client").pack())
    answer = bytes(DNSRecord.question("client").reply().pack())
    with asking_socket(client) as asker:
        for wire in (b"", b"x", question[:20], answer, question[:12] + b"\xc0\x0c\x00\x01\x00\x01", os.urandom(500)):
            asker.send(wire)
        for _ in range(2):
            asker.send(question)
            assert asker.recv(65535)[:2] == question[:2]
        asker.setblocking(False)  # noqa: FBT003 (its signature)
        with pytest.raises(BlockingIOError):
            asker.recv(65535)

    def half() -> bytes:
        with socket.create_connection(("127.0.0.11", 53), PATIENCE) as connection:
            connection.sendall(len(question[:20]).to_bytes(2, "big") + question[:20])
            return connection.recv(100)

    assert inside(client.pid, half) == b""
    assert lookup(client, "client") == [client.address]


# -- the process --------------------------------------------------------------------------------


@pytest.mark.own_engine
def test_one_process_serves_all_and_goes_with_the_last(engine: Engine, web: Network, start: Start) -> None:
    assert resolver(engine) == 0
    first, second = start(network="web", name="first"), start(network="web")
    assert first.exec_run(["netstat", "-lnu"]).output.count(b"127.0.0.11:") == 1
    pid = resolver(engine)
    first.remove(force=True)
    assert lookup(second, "first") == []
    assert resolver(engine) == pid
    assert lookup(second, second.short_id) == [second.address]
    second.remove(force=True)
    eventually(lambda: not resolver(engine))
    assert os.listdir(engine.runtime.path / "names") == []
    assert lookup(start(network="web", name="again"), "again")


@pytest.mark.own_engine
def test_the_default_bridge_needs_none(engine: Engine, start: Start) -> None:
    start(name="server")
    guest = start()
    assert guest.exec_run(["ping", "-c", "1", "-W", "1", "server"]).exit_code != 0
    assert resolver(engine) == 0
    assert not (engine.runtime.path / "names").exists()


def test_it_outlives_the_daemon_that_started_it(engine: Engine, web: Network, image: Image, repository: Path) -> None:
    with serving(engine.data_root, repository) as daemon:
        body = {"Image": "busybox:1", "Cmd": ["sleep", "600"], "HostConfig": {"NetworkMode": "web"}}
        assert daemon.api.post("/containers/create", body, name="server").status == 201
        assert daemon.api.post("/containers/server/start").status == 204
    pid, server = resolver(engine), engine.containers.get("server")
    assert lookup(server, "server") == [server.address]
    with serving(engine.data_root, repository) as daemon:
        kill(pid)
        assert daemon.api.get("/containers/json").status == 200
        eventually(lambda: resolver(engine) not in (0, pid))
    eventually(lambda: lookup(server, "server") == [server.address])


@pytest.mark.parametrize(
    "ordered", [("ps",), ("exec", "client", "true"), ("run", "--rm", "--network", "web", "busybox:1", "true")]
)
def test_a_killed_one_is_replaced_by_the_next_command(
    engine: Engine, client: Container, labctr: Labctr, ordered: tuple[str, ...]
) -> None:
    before = resolver(engine)
    kill(before)
    labctr(*ordered)
    eventually(lambda: resolver(engine) not in (0, before))
    eventually(lambda: lookup(client, "client") == [client.address])


def test_what_a_killed_one_leaves_goes_with_the_next_engine(engine: Engine, client: Container) -> None:
    kill(resolver(engine))
    assert sorted(os.listdir(engine.runtime.path / "names")) == sorted([client.id, "lock", "socket"])
    client.kill()
    Engine(engine.data_root)
    # What notes the container's end is an engine, too, and may be at it.
    eventually(lambda: os.listdir(engine.runtime.path / "names") == [])


def test_what_a_killed_starter_has_half_written_goes_with_the_container(engine: Engine, client: Container) -> None:
    directory = engine.runtime.path / "names"
    (directory / client.id).rename(directory / f".tmp-{client.id}1234")
    client.kill()
    eventually(lambda: os.listdir(directory) == [])


def test_one_that_cannot_start_is_reported_and_the_container_does_not_run(
    engine: Engine, web: Network, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dnslib.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(RuntimeFailed, match="the name server does not start"):
        start(network="web", name="server")
    assert [one.status for one in engine.containers.list(all=True)] == ["created"]
    monkeypatch.delenv("PYTHONPATH")
    (server,) = engine.containers.list(all=True)
    server.start()
    assert lookup(server, "server") == [server.address]


def test_many_that_start_at_once_have_one(
    engine: Engine, web: Network, command: list[str], repository: Path, image: Image
) -> None:
    script = 'nslookup -type=a "$0." | grep -c "^Address: "'
    run = [*command, "run", "--rm", "--network", "web"]
    runs = [
        subprocess.Popen([*run, "--name", f"c{n}", "busybox:1", "sh", "-c", script, f"c{n}"], cwd=repository, stdout=-1)
        for n in range(8)
    ]
    assert [one.communicate()[0].strip() for one in runs] == [b"1"] * 8
    eventually(lambda: not resolver(engine))
