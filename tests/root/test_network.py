"""runtime/network.py: bridges, addresses and NAT in the real kernel, looked at with ip and nft."""

from __future__ import annotations

import asyncio
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pylab_container.errors import Conflict, InUse, InvalidInput, RuntimeFailed
from pylab_container.events import Event, NetworkChanged
from pylab_container.runtime.network import Bridge
from pylab_container.runtime.network import bridge as bridge_module
from pylab_container.runtime.network.netlink import Netlink
from tests.support.network import advertise, advertisements, inside, ip, ip_inside
from tests.support.waiting import PATIENCE, eventually

NAME = "labctr_test"
SUBNET = "10.213.0.0/24"


def command(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def addresses_inside(pid: int) -> Any:
    """`ip address` in a namespace, once eth0 is up: the kernel notes its carrier in the background."""
    eventually(lambda: ip_inside(pid, "address")[1]["operstate"] == "UP")
    return ip_inside(pid, "address")


class Containers:
    """Processes that have a network namespace of their own and do nothing."""

    def __init__(self) -> None:
        self.processes: dict[int, subprocess.Popen[str]] = {}

    def start(self) -> int:
        # cat ends when its stdin does; the line says that unshare is done.
        process = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo ready; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        self.processes[process.pid] = process
        return process.pid

    def stop(self, pid: int) -> None:
        self.processes.pop(pid).communicate()


@pytest.fixture
def containers() -> Iterator[Containers]:
    made = Containers()
    yield made
    for pid in list(made.processes):
        made.stop(pid)


@pytest.fixture
def events() -> list[Event]:
    return []


def remains() -> list[str]:
    """Return the interfaces and nft tables that tests of this file have created."""
    links = [link["ifname"] for link in ip("link") if f"{link['ifname']} {link.get('ifalias', '')}".count("labctr_")]
    tables = command("nft", "list", "tables").splitlines()
    return links + [line for line in tables if "labctr_" in line and "labctr_ports_" not in line]


@pytest.fixture
def bridge(tmp_path: Path, events: list[Event], containers: Containers) -> Iterator[Bridge]:
    assert remains() == []
    made = Bridge(NAME, run_root=tmp_path, subnet=SUBNET, emit=events.append)
    yield made
    for endpoint in made.endpoints():
        made.disconnect(endpoint.container_id)
    made.remove()
    assert remains() == []


# -- what a container sees ----------------------------------------------------------------------


def test_a_container_gets_an_interface_an_address_and_a_way_out(bridge: Bridge, containers: Containers) -> None:
    pid = containers.start()
    endpoint = bridge.connect("c" * 64, pid)
    assert (endpoint.address, endpoint.prefix_length, endpoint.gateway) == ("10.213.0.2", 24, "10.213.0.1")
    lo, eth0 = addresses_inside(pid)
    assert (lo["ifname"], eth0["ifname"], eth0["operstate"]) == ("lo", "eth0", "UP")
    assert "UP" in lo["flags"]
    assert eth0["address"] == endpoint.mac == "02:42:0a:d5:00:02"
    # One address each: IPv6 is off, as in a container of Docker.
    assert [(a["local"], a["prefixlen"], a.get("broadcast")) for a in eth0["addr_info"]] == [
        ("10.213.0.2", 24, "10.213.0.255")
    ]
    assert [route.get("gateway") for route in ip_inside(pid, "route") if route["dst"] == "default"] == ["10.213.0.1"]


def test_the_host_sees_a_veth_on_the_bridge_that_says_whose_it_is(bridge: Bridge, containers: Containers) -> None:
    pid = containers.start()
    endpoint = bridge.connect("abc", pid)
    (link,) = ip("link", "show", endpoint.host_interface)
    (own,) = ip("address", "show", NAME)
    assert (link["master"], link["ifalias"]) == (NAME, f"{NAME} abc 10.213.0.2 eth0")
    assert (own["linkinfo"]["info_kind"], own["addr_info"][0]["local"]) == ("bridge", "10.213.0.1")
    assert link["mtu"] == own["mtu"] == ip_inside(pid, "link", "show", "eth0")[0]["mtu"]
    assert bridge.endpoints() == [endpoint]


def test_the_mtu_is_that_of_the_way_out(bridge: Bridge, containers: Containers) -> None:
    ways_out = [route["dev"] for route in ip("route", "show", "default")]
    expected = min((ip("link", "show", device)[0]["mtu"] for device in ways_out), default=1500)
    bridge.connect("abc", containers.start())
    assert ip("link", "show", NAME)[0]["mtu"] == expected
    bridge.disconnect("abc")
    assert ip("link", "show", NAME)[0]["mtu"] == expected  # also without a container


def test_containers_reach_each_other_and_the_host(bridge: Bridge, containers: Containers) -> None:
    first, second = containers.start(), containers.start()
    bridge.connect("first", first)
    endpoint = bridge.connect("second", second)
    with (
        inside(second, lambda: socket.create_server((endpoint.address, 8000))),
        socket.create_server((endpoint.gateway, 0)) as host,
    ):
        inside(first, lambda: socket.create_connection((endpoint.address, 8000), timeout=PATIENCE)).close()
        inside(first, lambda: socket.create_connection(host.getsockname()[:2], timeout=PATIENCE)).close()


def test_the_world_sees_the_hosts_address(bridge: Bridge, containers: Containers) -> None:
    world, pid = containers.start(), containers.start()
    command("ip", "link", "add", "labctr_world", "type", "veth", "peer", "name", "eth0", "netns", str(world))
    try:
        command("ip", "address", "add", "10.214.0.1/24", "dev", "labctr_world")
        command("ip", "link", "set", "labctr_world", "up")
        enter = ("nsenter", f"--net=/proc/{world}/ns/net", "ip")
        command(*enter, "address", "add", "10.214.0.2/24", "dev", "eth0")
        command(*enter, "link", "set", "eth0", "up")
        bridge.connect("abc", pid)
        with inside(world, lambda: socket.create_server(("10.214.0.2", 8000))) as server:
            server.settimeout(PATIENCE)
            with inside(pid, lambda: socket.create_connection(("10.214.0.2", 8000), timeout=PATIENCE)):
                connection, peer = server.accept()
                connection.close()
        assert peer[0] == "10.214.0.1"
    finally:
        command("ip", "link", "del", "labctr_world")


def test_an_event_loop_may_run_in_the_callers_thread(bridge: Bridge, containers: Containers) -> None:
    pid = containers.start()

    async def cell() -> str:
        return bridge.connect("abc", pid).address

    assert asyncio.run(cell()) == "10.213.0.2"


# -- addresses ----------------------------------------------------------------------------------


def test_the_lowest_free_address_is_given(bridge: Bridge, containers: Containers) -> None:
    for name in ("a", "b", "c"):
        bridge.connect(name, containers.start())
    bridge.disconnect("b")
    assert [endpoint.container_id for endpoint in bridge.endpoints()] == ["a", "c"]
    assert bridge.connect("d", containers.start()).address == "10.213.0.3"


def test_a_container_that_is_gone_has_freed_its_address(bridge: Bridge, containers: Containers) -> None:
    pid = containers.start()
    bridge.connect("a", pid)
    containers.stop(pid)
    bridge.disconnect("a")  # whether the kernel was first or not
    assert bridge.endpoints() == []
    assert bridge.connect("b", containers.start()).address == "10.213.0.2"


def test_a_wanted_address_is_given_or_refused(bridge: Bridge, containers: Containers) -> None:
    assert bridge.connect("a", containers.start(), address="10.213.0.99").address == "10.213.0.99"
    pid = containers.start()
    for address in ("10.213.0.99", "10.213.0.1"):
        with pytest.raises(Conflict):
            bridge.connect("b", pid, address=address)
    for address in ("10.213.0.0", "10.213.0.255", "192.0.2.9", "nonsense", "::1"):
        with pytest.raises(InvalidInput):
            bridge.connect("b", pid, address=address)
    assert len(bridge.endpoints()) == 1


def test_many_at_once_get_different_addresses(bridge: Bridge, tmp_path: Path, containers: Containers) -> None:
    pids = [containers.start() for _ in range(12)]

    def connect(pid: int) -> str:
        # Each with an object of its own, as processes of their own would have.
        return Bridge(NAME, run_root=tmp_path, subnet=SUBNET).connect(f"c{pid}", pid).address

    with ThreadPoolExecutor(6) as threads:
        addresses = list(threads.map(connect, pids))
    assert sorted(addresses) == sorted(f"10.213.0.{number}" for number in range(2, 14))


def test_a_full_subnet_is_told(tmp_path: Path, bridge: Bridge, containers: Containers) -> None:
    small = Bridge(NAME, run_root=tmp_path, subnet="10.213.0.0/30")
    assert small.connect("a", containers.start()).address == "10.213.0.2"
    with pytest.raises(Conflict, match="no address is free"):
        small.connect("b", containers.start())


# -- the bridge ---------------------------------------------------------------------------------


def test_a_subnet_that_the_host_has_a_route_into_is_not_taken(tmp_path: Path, containers: Containers) -> None:
    pid = containers.start()
    automatic = Bridge(NAME, run_root=tmp_path)
    command("ip", "link", "add", "labctr_other", "type", "bridge")
    try:
        command("ip", "link", "set", "labctr_other", "up")
        command("ip", "route", "add", "172.17.128.0/24", "dev", "labctr_other")
        address = automatic.connect("a", pid).address
        assert address.startswith("172.")
        assert not address.startswith("172.17.")
        with pytest.raises(Conflict, match="route"):
            Bridge("labctr_test2", run_root=tmp_path, subnet="172.17.0.0/16").connect("b", containers.start())
    finally:
        automatic.disconnect("a")
        automatic.remove()
        command("ip", "link", "del", "labctr_other")
    assert remains() == []


def test_a_bridge_is_not_removed_under_its_containers(bridge: Bridge, containers: Containers) -> None:
    bridge.connect("a", containers.start())
    with pytest.raises(InUse):
        bridge.remove()
    bridge.disconnect("a")
    bridge.remove()
    assert bridge.endpoints() == []
    bridge.remove()


def test_flushed_rules_come_back_with_the_next_container(bridge: Bridge, containers: Containers) -> None:
    bridge.connect("a", containers.start())
    command("nft", "delete", "table", "inet", NAME)
    bridge.connect("b", containers.start())
    assert command("nft", "list", "table", "inet", NAME).count("masquerade") == 3


def test_a_bridge_that_a_crash_left_half_made_is_finished(bridge: Bridge, containers: Containers) -> None:
    command("ip", "link", "add", NAME, "type", "bridge")
    command("ip", "link", "set", NAME, "alias", "network of every data root")
    assert bridge.endpoints() == []
    assert bridge.connect("a", containers.start()).address == "10.213.0.2"


def test_the_subnet_of_an_existing_bridge_counts(bridge: Bridge, tmp_path: Path, containers: Containers) -> None:
    bridge.connect("a", containers.start())
    assert Bridge(NAME, run_root=tmp_path).connect("b", containers.start()).address == "10.213.0.3"
    with pytest.raises(Conflict, match="exists with the subnet"):
        Bridge(NAME, run_root=tmp_path, subnet="10.99.0.0/24").connect("c", containers.start())


def test_an_interface_of_the_same_name_is_left_alone(bridge: Bridge, containers: Containers) -> None:
    command("ip", "link", "add", NAME, "type", "veth", "peer", "name", "labctr_peer")
    try:
        with pytest.raises(Conflict, match="existing interface labctr_test is not a bridge"):
            bridge.connect("a", containers.start())
    finally:
        command("ip", "link", "del", NAME)


@pytest.mark.parametrize(
    "name", ["", "9lives", "with space", "a" * 16, "semi;colon", "../up", "all", "default", "labctr_ports_a"]
)
def test_a_name_that_no_interface_can_have_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput):
        Bridge(name, run_root=tmp_path)


@pytest.mark.parametrize("subnet", ["", "10.0.0.0/31", "fd00::/64", "10.0.0.0/99"])
def test_a_subnet_that_cannot_be_one_is_refused(tmp_path: Path, subnet: str) -> None:
    with pytest.raises(InvalidInput):
        Bridge(NAME, run_root=tmp_path, subnet=subnet)


# -- bridges of others --------------------------------------------------------------------------


@pytest.fixture
def foreign() -> Iterator[str]:
    """A bridge that another program made, with an address."""
    name = "labtestbr"
    command("ip", "link", "add", name, "type", "bridge")
    command("ip", "address", "add", "10.214.0.1/24", "dev", name)
    yield name
    command("ip", "link", "del", name)


def settings(*interfaces: str) -> dict[Path, str]:
    """Return those settings of interfaces in /proc/sys/net that a network may change."""
    names = "accept_ra accept_redirects disable_ipv6 forwarding route_localnet".split()
    paths = [Path("/proc/sys/net", f, "conf", i, n) for f in ("ipv4", "ipv6") for i in interfaces for n in names]
    return {path: path.read_text().strip() for path in paths if path.exists()}


@pytest.mark.parametrize("subnet", ["10.214.0.0/24", "10.215.0.0/24"], ids=["its own subnet", "another subnet"])
def test_a_bridge_of_others_is_used_and_left_as_it_was(
    foreign: str, tmp_path: Path, containers: Containers, subnet: str
) -> None:
    made = Bridge(foreign, run_root=tmp_path, subnet=subnet, owner=str(tmp_path))
    before = ip("address", "show", foreign)[0]["addr_info"], settings(foreign), ip("link", "show", foreign)[0]["mtu"]
    pid = containers.start()
    assert made.connect("a", pid).gateway == subnet.replace(".0/24", ".1")
    assert command("nsenter", f"--net=/proc/{pid}/ns/net", "busybox", "ping", "-c", "1", "-W", "20", "10.214.0.1")
    with pytest.raises(InUse):
        made.remove()
    made.disconnect("a")
    made.remove()
    (link,) = ip("address", "show", foreign)
    four = [one for one in link["addr_info"] if one["family"] == "inet"]
    assert (four, settings(foreign), link["mtu"], link.get("ifalias")) == (*before, None)
    assert foreign not in command("nft", "list", "tables")


def test_a_bridge_that_appears_during_creation_is_not_claimed(
    foreign: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Bridge(foreign, run_root=tmp_path, subnet="10.216.0.0/24", owner=str(tmp_path))
    answers = iter([None, None])  # what _find() and _create() saw, before another program made the bridge
    present = Netlink.link
    monkeypatch.setattr(Netlink, "link", lambda self, name: next(answers, present(self, name)))
    with pytest.raises(RuntimeFailed, match="File exists"):
        made.ensure()
    made.remove()
    assert "ifalias" not in ip("link", "show", foreign)[0]


def test_the_default_bridge_is_left_if_another_program_made_it(foreign: str, tmp_path: Path) -> None:
    made = Bridge(foreign, run_root=tmp_path)
    assert str(made.ensure()) == "10.214.0.0/24"
    made.remove()
    assert ip("link", "show", foreign)


@pytest.mark.parametrize("interface", ["lo", "labtestpeer"])
def test_an_interface_that_is_no_bridge_survives_every_removal(tmp_path: Path, interface: str) -> None:
    command("ip", "link", "add", "labtestpeer", "type", "veth", "peer", "name", "labtestother")
    try:
        made = Bridge(interface, run_root=tmp_path, subnet=SUBNET, owner=str(tmp_path))
        for use in (made.ensure, made.refuse_foreign):
            with pytest.raises(Conflict, match=f"existing interface {interface} is not a bridge"):
                use()
        made.remove()
        assert ip("link", "show", interface)
    finally:
        command("ip", "link", "del", "labtestpeer")


def test_a_table_of_the_hosts_rules_is_not_replaced(tmp_path: Path) -> None:
    command("nft", "add table inet filter; add chain inet filter input")
    made = Bridge("filter", run_root=tmp_path, subnet=SUBNET, owner=str(tmp_path))
    try:
        made.ensure()
        assert "chain input" in command("nft", "list", "table", "inet", "filter")
        made.remove()
        assert "chain input" in command("nft", "list", "table", "inet", "filter")
    finally:
        command("nft", "delete", "table", "inet", "filter")
    assert not [link for link in ip("link") if link["ifname"] == "filter"]


def test_a_bridge_whose_record_has_a_long_path_is_removed(tmp_path: Path) -> None:
    made = Bridge(NAME, run_root=tmp_path, subnet=SUBNET, owner=f"/{'x' * 300}")
    made.ensure()
    other = Bridge(NAME, run_root=tmp_path, subnet=SUBNET, owner=f"/{'y' * 300}")
    with pytest.raises(Conflict, match="is another network's"):
        other.ensure()
    other.remove()
    assert remains()
    made.remove()
    assert remains() == []


# -- IPv6 routers -------------------------------------------------------------------------------

PREFIX = "2001:db8:bad::"


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[Bridge]:
    """A bridge with IPv6 on a host that forwards no IPv6 yet."""
    Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text("0")
    made = Bridge(NAME, run_root=tmp_path, subnet=SUBNET, subnet6="fd00:213::/64")
    yield made
    for endpoint in made.endpoints():
        made.disconnect(endpoint.container_id)
    made.remove()


def taken_from_router() -> list[str]:
    """Addresses and routes of this network namespace that come from an advertisement of advertise()."""
    addresses = [one["local"] for link in ip("-6", "address") for one in link["addr_info"]]
    return [
        *(one for one in addresses if one.startswith(PREFIX[:-1])),
        *(r["dst"] for r in ip("-6", "route") if ":bad" in str(r)),
    ]


def receive(pid: int, sender: str, receiver: str) -> None:
    """Send a router advertisement, and wait until it has been processed: a second one has arrived behind it."""
    enough = advertisements(receiver) + 2

    def is_received() -> bool:
        advertise(pid, sender, PREFIX)  # a frame is lost as long as an interface waits for its carrier
        return advertisements(receiver) >= enough

    eventually(is_received)


@pytest.mark.parametrize("internal", [False, True])
def test_a_container_is_no_router_for_the_host(silent: Bridge, containers: Containers, internal: bool) -> None:  # noqa: FBT001
    silent.internal = internal
    pid = containers.start()
    silent.connect("a", pid)
    receive(pid, "eth0", NAME)
    assert taken_from_router() == []
    names = ("ipv6/conf/{}/accept_ra", "ipv6/conf/{}/accept_redirects", "ipv4/conf/{}/accept_redirects")
    assert [Path("/proc/sys/net", name.format(NAME)).read_text() for name in names] == ["0\n"] * 3


def test_a_veth_that_lost_its_bridge_listens_to_no_router(silent: Bridge, containers: Containers) -> None:
    pid = containers.start()
    veth = silent.connect("a", pid).host_interface
    command("ip", "link", "set", veth, "nomaster")
    receive(pid, "eth0", veth)
    assert taken_from_router() == []
    command("ip", "link", "set", veth, "master", NAME)


def test_a_bridge_that_listened_to_routers_stops_with_the_next_container(
    silent: Bridge, containers: Containers
) -> None:
    silent.ensure()
    setting = Path("/proc/sys/net/ipv6/conf", NAME, "accept_ra")
    setting.write_text("2")
    silent.connect("a", containers.start())
    assert setting.read_text() == "0\n"


def test_the_hosts_own_router_stays_its_router(silent: Bridge, containers: Containers) -> None:
    router = containers.start()
    command("ip", "link", "add", "labtestup", "type", "veth", "peer", "name", "wire", "netns", str(router))
    enter = ("nsenter", f"--net=/proc/{router}/ns/net", "ip")
    try:
        command(*enter, "link", "set", "wire", "address", "02:00:00:00:0b:ad", "up")
        for address in ("fe80::bad/64", "2001:db8:ffff::1/64"):
            command(*enter, "address", "add", address, "dev", "wire", "nodad")
        command(*enter, "-6", "route", "add", "2001:db8:bad::/48", "dev", "wire")
        command("ip", "link", "set", "labtestup", "up")
        receive(router, "wire", "labtestup")
        found = taken_from_router()
        assert len(found) == 3  # an address, its network and the default route
        others = [link["ifname"] for link in ip("link")]
        before = settings(*others, "default")

        pid = containers.start()
        silent.connect("a", pid)
        assert settings(*others, "default") == before
        assert taken_from_router() == found
        assert Path("/proc/sys/net/ipv6/conf/all/forwarding").read_text() == "1\n"
        # The router's next word counts, too, and the container's packets leave through it.
        advertise(router, "wire", "2001:db8:bad:1::")
        advertise(router, "wire", "2001:db8:bad:2::")
        eventually(lambda: "2001:db8:bad:2:" in str(ip("-6", "address")))
        eventually(
            lambda: (
                not [
                    a
                    for link in ip("-6", "address", "show", "labtestup")
                    for a in link["addr_info"]
                    if "tentative" in a
                ]
            )
        )
        command(
            "nsenter", f"--net=/proc/{pid}/ns/net", "busybox", "ping", "-6", "-c", "1", "-W", "20", "2001:db8:ffff::1"
        )
    finally:
        command("ip", "link", "del", "labtestup")


# -- failures and events ------------------------------------------------------------------------


def test_a_failed_connect_leaves_no_veth(bridge: Bridge, containers: Containers) -> None:
    pid = containers.start()
    bridge.connect("a", pid)
    before = {link["ifname"] for link in ip("link")}
    with pytest.raises(RuntimeFailed, match="File exists"):
        bridge.connect("b", pid)
    # The link is made but cannot be configured: the route to the gateway exists already.
    with pytest.raises(RuntimeFailed, match="route add default"):
        bridge.connect("b", pid, interface="eth1")
    assert {link["ifname"] for link in ip("link")} <= before  # those of others may go at any time


def test_a_veth_gets_a_name_that_no_other_interface_has(
    bridge: Bridge, containers: Containers, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = bridge.connect("a", containers.start())
    drawn = iter((first.host_interface.removeprefix("veth"), "7e57ab1"))
    monkeypatch.setattr(bridge_module, "random_hex", lambda _: next(drawn))
    second = bridge.connect("b", containers.start())
    assert second.host_interface == "veth7e57ab1"
    assert bridge.endpoints() == [first, second]


def test_a_process_that_has_exited_is_a_conflict(bridge: Bridge, containers: Containers) -> None:
    pid = containers.start()
    containers.stop(pid)
    with pytest.raises(Conflict, match="has exited"):
        bridge.connect("a", pid)


def test_the_commands_told_make_the_same_network_by_hand(
    bridge: Bridge, containers: Containers, events: list[Event]
) -> None:
    pid = containers.start()
    bridge.connect("a", pid)
    made = addresses_inside(pid), ip_inside(pid, "route"), command("nft", "list", "table", "inet", NAME)
    told = [event.command for event in events if isinstance(event, NetworkChanged)]
    bridge.disconnect("a")
    bridge.remove()
    for line in told:
        command(*shlex.split(line))
    again = addresses_inside(pid), ip_inside(pid, "route"), command("nft", "list", "table", "inet", NAME)
    for addresses in (made[0], again[0]):
        for link in addresses:
            link.pop("ifindex")
            link.pop("link_index", None)
    assert again == made
    assert [endpoint.container_id for endpoint in bridge.endpoints()] == ["a"]


# -- rules of others ----------------------------------------------------------------------------


@pytest.mark.parametrize(("policy", "found"), [("drop", ["ip filter FORWARD"]), ("accept", [])])
def test_a_chain_of_others_that_forwards_nothing_is_found(policy: str, found: list[str]) -> None:
    chain = f"add chain ip filter FORWARD {{ type filter hook forward priority 0; policy {policy}; }}"
    script = "from pylab_container.runtime.network.foreign import chains_that_drop as c; print(c())"
    told = command(
        *("unshare", "--net", "sh", "-c", 'nft "$1" && exec "$2" -c "$3"', "sh"),
        *(f"add table ip filter; {chain}", sys.executable, script),
    )
    assert told.strip() == str(found)
