"""engine/networks.py and endpoints.py: networks of users, on real bridges with real traffic."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pylab_container import Engine
from pylab_container.engine.containers import Container
from pylab_container.engine.networks import Network
from pylab_container.errors import Conflict, Forbidden, InUse, InvalidInput, NotFound
from pylab_container.images.image import Image
from tests.support.network import free_port, get, lookup
from tests.support.waiting import eventually

pytestmark = pytest.mark.shared_engine

Start = Callable[..., Container]
SERVER = ["sh", "-c", "mkdir /tmp/www; hostname > /tmp/www/index.html; exec httpd -f -p 80 -h /tmp/www"]


@pytest.fixture
def clean(engine: Engine) -> Iterator[None]:
    """Remove the networks after the test, and fail if one of their interfaces or tables remains."""
    yield
    containers, networks = engine.containers.list(all=True), engine.networks.list({"type": "custom"})
    names = [*(f"labctr_ports_{one.short_id}" for one in containers), *(one.bridge.name for one in networks)]
    for container in containers:
        container.remove(force=True)
    for network in networks:
        network.remove()
    tables = subprocess.run(["nft", "list", "tables"], check=True, capture_output=True, text=True).stdout
    assert not [name for name in names if name in tables or Path("/sys/class/net", name).exists()]


@pytest.fixture
def start(engine: Engine, image: Image, clean: None) -> Start:
    """Start a container that sleeps, or runs a command."""

    def run(command: list[str] | None = None, **options: Any) -> Container:
        container: Container = engine.containers.run_detached(image, command or ["sleep", "600"], **options)
        return container

    return run


@pytest.fixture
def web(engine: Engine, clean: None) -> Network:
    return engine.networks.create("web")


def reaches(container: Container, name: str, seconds: int = 20) -> bool:
    """Return whether an answer arrives in time. Callers that expect no answer pass a shorter time."""
    return container.exec_run(["ping", "-c", "1", "-W", str(seconds), name]).exit_code == 0


def endpoint(container: Container, network: str) -> dict[str, Any]:
    settings: dict[str, Any] = container.attrs["NetworkSettings"]["Networks"][network]
    return settings


def fetch(container: Container, address: str) -> str:
    """Return the page, and retry until the server answers."""
    wget = ["timeout", "20", "wget", "-qO-", f"http://{address}/"]
    return eventually(lambda: container.exec_run(wget).output.strip().decode())


# -- networks -----------------------------------------------------------------------------------


def test_there_are_three_before_a_user_makes_one(engine: Engine) -> None:
    assert [(one.name, one.driver) for one in engine.networks.list()] == [
        ("bridge", "bridge"),
        ("host", "host"),
        ("none", "null"),
    ]
    assert engine.networks.get("bridge").id == engine.networks.get("bridge").id


def test_a_network_is_recorded_in_dockers_words(engine: Engine, web: Network) -> None:
    document = web.attrs
    assert list(document) == (
        "Name Id Created Scope Driver EnableIPv6 IPAM Internal Attachable Ingress ConfigFrom ConfigOnly "
        "Containers Options Labels".split()
    )
    (pool,) = document["IPAM"]["Config"]
    assert pool["Gateway"] == pool["Subnet"].replace(".0.0/16", ".0.1")
    again = Engine(engine.data_root).networks
    assert again.get("web") == again.get(web.id) == again.get(web.short_id) == web


def test_its_subnet_is_its_own(engine: Engine, web: Network) -> None:
    other = engine.networks.create("other")
    routes = json.loads(subprocess.run(["ip", "-j", "route"], check=True, capture_output=True).stdout)
    ours = [one.attrs["IPAM"]["Config"][0]["Subnet"] for one in (web, other)]
    assert ours[0] != ours[1]
    assert [route["dev"] for route in routes if route["dst"] == ours[0]] == [web.bridge.name]
    with pytest.raises(Conflict, match="Pool overlaps"):
        engine.networks.create("third", subnet=ours[0])


def test_subnet_gateway_and_range_are_the_users(engine: Engine, start: Start) -> None:
    made = engine.networks.create("own", subnet="10.213.0.0/24", gateway="10.213.0.254", ip_range="10.213.0.64/28")
    assert made.attrs["IPAM"]["Config"] == [
        {"Subnet": "10.213.0.0/24", "Gateway": "10.213.0.254", "IPRange": "10.213.0.64/28"}
    ]
    first, second = start(network="own"), start(network="own", ipv4_address="10.213.0.9")
    assert (first.address, second.address) == ("10.213.0.64", "10.213.0.9")
    assert endpoint(first, "own")["Gateway"] == "10.213.0.254"
    assert reaches(first, "10.213.0.254")
    with pytest.raises(Conflict, match="Address already in use"):
        start(network="own", ipv4_address="10.213.0.9")
    with pytest.raises(InvalidInput):
        start(network="own", ipv4_address="10.214.0.9")


def test_docker_pys_ipam_is_understood(engine: Engine, clean: None) -> None:
    ipam = {"Driver": "default", "Config": [{"Subnet": "10.213.0.0/24", "Gateway": None, "IPRange": None}]}
    assert engine.networks.create("own", ipam=ipam).attrs["IPAM"]["Config"][0]["Gateway"] == "10.213.0.1"


@pytest.mark.parametrize(
    "options",
    [
        {"subnet": "10.213.0.0/31"},
        {"subnet": "nonsense"},
        {"gateway": "10.213.0.1"},
        {"subnet": "10.213.0.0/24", "gateway": "10.214.0.1"},
        {"subnet": "10.213.0.0/24", "gateway": "10.213.0.255"},
        {"subnet": "10.213.0.0/24", "ip_range": "10.214.0.0/25"},
        {"enable_ipv6": True},
        {"options": {"com.docker.network.bridge.enable_icc": "maybe"}},
        {"options": {"com.docker.network.driver.mtu": "big"}},
        {"options": {"com.docker.network.bridge.name": "../up"}},
        {"ipam": {"Config": [{"Subnet": "10.213.0.0/24", "Unknown": "x"}]}},
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_and_leaves_nothing(engine: Engine, clean: None, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        engine.networks.create("bad", **options)
    assert engine.networks.list({"type": "custom"}) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"subnet": ("10.213.0.0/24", "10.214.0.0/24")}, "doesn't support multiple subnets"),
        ({"subnet": "10.213.0.0/24", "aux_addresses": {"a": "10.1.1.1"}}, "must belong to the master pool"),
        ({"ipam": {"Driver": "dhcp"}}, 'plugin "dhcp" not found'),
    ],
    ids=str,
)
def test_what_docker_refuses_is_refused_in_its_words(
    engine: Engine, clean: None, options: dict[str, Any], words: str
) -> None:
    with pytest.raises((Forbidden, NotFound), match=words):
        engine.networks.create("bad", **options)
    assert engine.networks.list({"type": "custom"}) == []


def test_an_ipv6_subnet_without_ipv6_is_only_written_down(engine: Engine, start: Start) -> None:
    network = engine.networks.create("own", subnet="2001:db8:213::/64")
    assert "2001:db8:213::/64" in [pool["Subnet"] for pool in network.attrs["IPAM"]["Config"]]
    member = start(network="own", ipv6_address="2001:db8:213::9")
    assert member.attrs["NetworkSettings"]["Networks"]["own"]["GlobalIPv6Address"] == ""


def test_reserved_addresses_are_given_to_no_container(engine: Engine, start: Start) -> None:
    reserved = {"router": "10.213.0.2", "printer": "10.213.0.3"}
    network = engine.networks.create("own", subnet="10.213.0.0/24", aux_addresses=reserved)
    assert network.attrs["IPAM"]["Config"][0]["AuxiliaryAddresses"] == reserved
    assert start(network="own").address == "10.213.0.4"
    with pytest.raises(Conflict, match="already in use"):
        start(network="own", ipv4_address="10.213.0.2")


def test_two_networks_may_have_one_name_without_check_duplicate(engine: Engine, web: Network, start: Start) -> None:
    member = start(network="web")
    other = engine.networks.create("web", check_duplicate=False)
    with pytest.raises(InvalidInput, match="network web is ambiguous"):
        engine.networks.get("web")
    assert engine.networks.get(other.id) == other
    member.restart(timeout=0)
    assert [one.id for one in web.containers] == [member.id]
    member.stop(timeout=0)
    assert web.bridge.endpoints() == []


def test_without_connectivity_containers_reach_the_world_but_not_each_other(engine: Engine, start: Start) -> None:
    network = engine.networks.create("own", options={"com.docker.network.bridge.enable_icc": "false"})
    one, other = start(network="own"), start(network="own")
    assert not reaches(one, str(other.address), 1)
    assert reaches(one, network.attrs["IPAM"]["Config"][0]["Gateway"])


def test_without_masquerade_containers_are_seen_with_their_own_addresses(engine: Engine, start: Start) -> None:
    network = engine.networks.create("own", options={"com.docker.network.bridge.enable_ip_masquerade": "false"})
    start(network="own")
    table = subprocess.run(
        ["nft", "list", "chain", "inet", network.bridge.name, "postrouting"], check=True, capture_output=True, text=True
    ).stdout
    assert f'oifname != "{network.bridge.name}" masquerade' not in table


def test_a_network_may_choose_the_address_on_which_ports_are_published(engine: Engine, start: Start) -> None:
    engine.networks.create("own", options={"com.docker.network.bridge.host_binding_ipv4": "127.0.0.1"})
    port = free_port()
    member = start(network="own", ports={"80/tcp": port})
    assert member.attrs["NetworkSettings"]["Ports"]["80/tcp"] == [{"HostIp": "127.0.0.1", "HostPort": str(port)}]


def test_an_endpoint_has_the_hardware_address_and_the_link_local_addresses_that_were_wished(
    engine: Engine, web: Network, start: Start
) -> None:
    mac, local = "02:42:0a:0b:0c:0d", ["169.254.7.8", "fe80::7"]
    member = start()
    web.connect(member, mac_address=mac, link_local_ips=local, driver_opt={"a": "b"})
    shown = member.exec_run(["ip", "addr", "show", "dev", "eth1"]).output.decode()
    assert mac in shown
    assert all(address in shown for address in ("169.254.7.8/16", "fe80::7/64"))
    member.restart(timeout=0)
    settings = member.attrs["NetworkSettings"]["Networks"]["web"]
    assert (settings["MacAddress"], settings["IPAMConfig"]["LinkLocalIPs"]) == (mac, local)
    assert settings["DriverOpts"] == {"a": "b"}
    assert "DesiredMacAddress" not in settings


@pytest.mark.parametrize("address", ["169.253.5.5", "2001:db8::89"])
def test_an_address_of_a_link_must_be_one(engine: Engine, web: Network, start: Start, address: str) -> None:
    with pytest.raises(InvalidInput, match=f"invalid link local IP address: {address}"):
        start(link_local_ips=[address])
    member = start()
    with pytest.raises(InvalidInput, match=f"invalid link local IP address: {address}"):
        web.connect(member, link_local_ips=[address])
    assert list(member.attrs["NetworkSettings"]["Networks"]) == ["bridge"]


def test_names_that_are_taken_or_cannot_be_are_refused(engine: Engine, web: Network) -> None:
    with pytest.raises(Conflict, match="already exists"):
        engine.networks.create("web")
    for name in ("bridge", "host", "none"):
        with pytest.raises(Forbidden, match="predefined"):
            engine.networks.create(name)
        with pytest.raises(Forbidden, match="pre-defined"):
            engine.networks.get(name).remove()
    with pytest.raises(NotFound, match='plugin "overlay" not found'):
        engine.networks.create("other", "overlay")
    for driver in ("host", "null"):
        with pytest.raises(Forbidden, match="only one instance"):
            engine.networks.create("other", driver)
    for name in ("", " ", "a\nb", "\x1b[2J"):
        with pytest.raises(InvalidInput):
            engine.networks.create(name)
    with pytest.raises(NotFound):
        engine.networks.get("nobody")


def test_a_network_is_removed_once_it_has_no_container(engine: Engine, web: Network, start: Start) -> None:
    container = start(network="web", name="member")
    assert [one.name for one in web.containers] == ["member"]
    assert web.attrs["Containers"][container.id]["IPv4Address"] == f"{container.address}/16"
    with pytest.raises(Forbidden, match=f"error while removing network: network web id {web.id} has active endpoints"):
        web.remove()
    container.stop(timeout=0)
    web.remove()
    assert not Path("/sys/class/net", web.bridge.name).exists()
    with pytest.raises(NotFound, match=web.id):
        container.start()


def test_prune_removes_networks_without_containers(engine: Engine, web: Network, start: Start) -> None:
    start(network="web")
    engine.networks.create("spare", labels={"keep": "no"})
    engine.networks.create("kept", labels={"keep": "yes"})
    assert [one.name for one in engine.networks.prune({"label!": "keep=yes"}).deleted] == ["spare"]
    assert [one.name for one in engine.networks.list({"type": "custom"})] == ["kept", "web"]
    assert [one.name for one in engine.networks.list({"dangling": "true"})] == ["kept"]
    assert [one.name for one in engine.networks.list({"name": "e", "driver": "bridge"})] == ["bridge", "kept", "web"]


# -- apart --------------------------------------------------------------------------------------


def test_networks_do_not_reach_each_other(engine: Engine, web: Network, start: Start) -> None:
    engine.networks.create("other")
    server, other, default = start(network="web"), start(network="other"), start()
    for stranger in (other, default):
        assert not reaches(stranger, server.address, 1)
        assert not reaches(server, stranger.address, 1)
    assert reaches(start(network="web"), server.address)


def test_a_container_on_both_reaches_both(engine: Engine, web: Network, start: Start) -> None:
    other = engine.networks.create("other")
    first, second, both = start(network="web"), start(network="other"), start(network="web", name="both")
    other.connect(both, aliases=["middle"])
    assert reaches(both, first.address)
    assert reaches(both, second.address)
    assert reaches(second, "middle")
    assert not reaches(first, second.address, 1)
    assert "eth1" in both.exec_run(["ls", "/sys/class/net"]).output.decode()
    other.disconnect(both)
    assert not reaches(both, second.address, 1)
    assert not reaches(second, "middle", 1)
    assert "eth1" not in both.exec_run(["ls", "/sys/class/net"]).output.decode()
    assert list(both.attrs["NetworkSettings"]["Networks"]) == ["web"]


def test_an_internal_network_has_no_way_out(engine: Engine, start: Start) -> None:
    engine.networks.create("inner", internal=True)
    first, _ = start(network="inner", name="first", cap_add=["NET_ADMIN"]), start(network="inner", name="second")
    assert reaches(first, "second")
    assert "default" not in first.exec_run(["ip", "route"]).output.decode()
    outside = start()
    assert not reaches(first, outside.address, 1)
    assert not reaches(outside, first.address, 1)
    told = first.exec_run(["ping", "-c", "1", "-W", "1", outside.address]).output
    assert b"Network is unreachable" in told
    assert first.exec_run(["ip", "route", "add", "default", "via", endpoint(first, "inner")["Gateway"]]).exit_code == 0
    assert not reaches(first, outside.address, 1)


def test_of_several_networks_the_first_by_name_leads_out_and_publishes(engine: Engine, start: Start) -> None:
    aaa, inner, zzz = (engine.networks.create(name, internal=name == "inner") for name in ("aaa", "inner", "zzz"))
    container = start(ports={"80/tcp": None}, command=SERVER)

    def way_out() -> str:
        lines = container.exec_run(["ip", "route"]).output.decode().splitlines()
        (gateway,) = [line.split()[2] for line in lines if line.startswith("default ")]
        networks = container.attrs["NetworkSettings"]["Networks"]
        return str(next(name for name in networks if networks[name]["Gateway"] == gateway))

    def published() -> str:
        return str(container.ports["80/tcp"][0]["HostPort"])

    assert way_out() == "bridge"
    for network, leads in ((zzz, "bridge"), (inner, "bridge"), (aaa, "aaa")):
        network.connect(container)
        assert way_out() == leads
    assert get(f"127.0.0.1:{published()}").strip() == container.short_id
    container.restart(timeout=0)
    assert way_out() == "aaa"
    aaa.disconnect(container)
    assert way_out() == "bridge"
    assert get(f"127.0.0.1:{published()}").strip() == container.short_id


def test_none_has_only_loopback_and_host_has_all(engine: Engine, image: Image, clean: None) -> None:
    inside = engine.containers.run(image, ["ls", "/sys/class/net"], network_mode="none", remove=True)
    assert inside.split() == [b"lo"]
    names = engine.containers.run(image, ["ls", "/sys/class/net"], network_mode="host", remove=True).split()
    assert {b"lo", b"labctr0"} <= set(names)


def test_two_containers_may_share_one_network(start: Start) -> None:
    server = start(SERVER, name="server")
    client = start(network_mode="container:server")
    assert fetch(client, "127.0.0.1") == server.short_id


def test_the_owner_of_a_joined_network_may_be_made_later_but_no_container_joins_its_own(
    engine: Engine, image: Image, start: Start
) -> None:
    described = engine.containers.create_described
    early = described(image, ["cat", "/etc/hostname"], {"network_mode": "container:late"})
    with pytest.raises(NotFound, match="No such container: late"):
        early.start()
    late = start(name="late")
    early.start()
    early.wait()
    assert early.logs().decode().strip() == late.short_id
    own = described(image, ["true"], {"name": "own", "network_mode": "container:own"})
    with pytest.raises(Conflict, match="cannot join own network"):
        own.start()


def test_an_address_is_chosen_only_in_a_subnet_that_a_user_chose(web: Network, start: Start) -> None:
    with pytest.raises(InvalidInput, match="only when connecting to networks with user configured subnets"):
        start(network="web", ipv4_address="10.213.0.9")
    assert "FreeSubnet" not in web.attrs
    with pytest.raises(InvalidInput, match=r"invalid IPv6 address: ::ffff:10\.0\.0\.1"):
        web.connect(start(), ipv6_address="::ffff:10.0.0.1")
    with pytest.raises(InvalidInput, match="invalid IPv4 address: fd00::1"):
        web.connect(start(), ipv4_address="fd00::1")


# -- connect and disconnect ---------------------------------------------------------------------


def test_a_container_that_does_not_run_joins_at_its_start(engine: Engine, image: Image, web: Network) -> None:
    container = engine.containers.create(image, ["sleep", "600"])
    web.connect(container, aliases=["later"])
    container.start()
    assert sorted(container.attrs["NetworkSettings"]["Networks"]) == ["bridge", "web"]
    assert "later" in endpoint(container, "web")["Aliases"]
    assert container.exec_run(["ls", "/sys/class/net"]).output.split() == [b"eth0", b"eth1", b"lo"]
    container.restart(timeout=0)
    assert container.exec_run(["ls", "/sys/class/net"]).output.split() == [b"eth0", b"eth1", b"lo"]


def test_what_makes_no_sense_is_refused(engine: Engine, web: Network, start: Start) -> None:
    member, alone, hosted = start(network="web"), start(network_mode="none"), start(network_mode="host")
    sharing = start(network_mode=f"container:{member.id}")
    with pytest.raises(Forbidden, match="already exists in network web"):
        web.connect(member)
    with pytest.raises(InvalidInput, match=r"private \(none\) mode"):
        web.connect(alone)
    with pytest.raises(InvalidInput, match=r"private \(none\) mode"):
        engine.networks.get("none").connect(member)
    for one in (hosted, sharing):
        with pytest.raises(InvalidInput, match="sharing network namespace"):
            web.connect(one)
    with pytest.raises(InvalidInput, match="connected to host network"):
        engine.networks.get("host").connect(member)
    with pytest.raises(InvalidInput, match="disconnected from host network"):
        engine.networks.get("host").disconnect(hosted)
    with pytest.raises(Conflict, match="is not connected to network bridge"):
        engine.networks.get("bridge").disconnect(member)
    engine.networks.get("bridge").disconnect(member, force=True)
    with pytest.raises(InvalidInput):
        engine.networks.get("bridge").connect(member, aliases=["x"])
    with pytest.raises(NotFound):
        engine.containers.create(engine.images.get("busybox:1"), ["true"], network="nobody")


def test_the_way_out_and_the_ports_move_when_their_network_goes(engine: Engine, web: Network, start: Start) -> None:
    port = free_port()
    container = start(SERVER, network="web", ports={"80/tcp": port})
    other = engine.networks.create("other")
    other.connect(container)
    assert get(f"127.0.0.1:{port}") == container.short_id
    web.disconnect(container)
    assert get(f"127.0.0.1:{port}") == container.short_id
    gateway = endpoint(container, "other")["Gateway"]
    assert f"default via {gateway}" in container.exec_run(["ip", "route"]).output.decode()


def test_what_does_not_run_can_be_connected_again_with_other_wishes(engine: Engine, image: Image, web: Network) -> None:
    container = engine.containers.create(image, ["sleep", "600"], network="web")
    web.connect(container, aliases=["second"])
    assert endpoint(container, "web")["Aliases"][0] == "second"


# -- what is left over --------------------------------------------------------------------------


def interfaces() -> set[str]:
    return {path.name for path in Path("/sys/class/net").iterdir()}


def tables() -> str:
    return subprocess.run(["nft", "list", "tables"], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("tidy", ["create", "prune", "down"])
def test_a_bridge_goes_whose_data_root_was_deleted(engine: Engine, web: Network, tmp_path: Path, tidy: str) -> None:
    other = Engine(tmp_path / "other")
    name = other.networks.create("lost").bridge.name
    shutil.rmtree(other.data_root)
    assert name in interfaces()
    if tidy == "create":
        engine.networks.create("new")
    elif tidy == "prune":
        engine.networks.prune({"label": "nosuch"})
    else:
        with contextlib.suppress(InUse):  # of other engines' containers on labctr0
            engine.networks.down()
    assert name not in interfaces()
    assert name not in tables()
    assert not Path("/run/pylab-container", f"{name}.lock").exists()
    if tidy != "down":
        assert web.bridge.name in interfaces()


def test_a_bridge_with_a_container_is_not_removed(engine: Engine, web: Network, start: Start) -> None:
    container = start(network="web")
    record = engine.data.networks.path(web.id)
    hidden = record.rename(record.with_suffix(".hidden"))
    try:
        engine.networks.create("new")
        assert reaches(container, web.attrs["IPAM"]["Config"][0]["Gateway"])
    finally:
        hidden.rename(record)


@pytest.mark.parametrize("moment", ["ensure", "_add_rules", "_own_address"])
def test_a_creator_killed_at_any_moment_leaves_a_network_that_works_or_none(
    engine: Engine, start: Start, command: list[str], repository: Path, moment: str
) -> None:
    before = interfaces()
    script = (
        "import os, sys; from pylab_container import Engine; from pylab_container.runtime.network import Bridge\n"
        f"Bridge.{moment} = lambda *_: os.kill(os.getpid(), 9)\n"
        "Engine(sys.argv[1]).networks.create('half')\n"
    )
    killed = subprocess.run([command[0], "-c", script, str(engine.data_root)], cwd=repository, check=False)
    assert killed.returncode == -9
    container = start(network="half")
    assert reaches(container, endpoint(container, "half")["Gateway"])
    container.remove(force=True)
    engine.networks.get("half").remove()
    assert {name for name in interfaces() - before if name.startswith("labctr")} == set()


BRIDGE = "com.docker.network.bridge.name"


@pytest.fixture
def foreign() -> Iterator[str]:
    """A bridge that another program made."""
    for line in ("add labtestbr2 type bridge", "set labtestbr2 up"):
        subprocess.run(["ip", "link", *line.split()], check=True)
    subprocess.run("ip address add 10.216.0.7/24 dev labtestbr2".split(), check=True)
    yield "labtestbr2"
    subprocess.run(["ip", "link", "del", "labtestbr2"], check=True)


@pytest.mark.parametrize("subnet", [(), "10.216.0.0/24"], ids=["no subnet", "its subnet"])
def test_a_bridge_of_the_host_serves_a_network_with_its_own_address_and_stays(
    engine: Engine, start: Start, foreign: str, subnet: Any
) -> None:
    network = engine.networks.create("own", options={BRIDGE: foreign}, subnet=subnet)
    assert network.attrs["IPAM"]["Config"] == [{"Subnet": "10.216.0.0/24", "Gateway": "10.216.0.7"}]
    container = start(network="own")
    assert reaches(container, "10.216.0.7")
    with pytest.raises(Conflict, match="networks have same bridge name"):
        engine.networks.create("second", options={BRIDGE: foreign})
    container.remove(force=True)
    network.remove()
    assert foreign in interfaces()
    assert engine.networks.list({"type": "custom"}) == []


@pytest.mark.parametrize("name", ["lo", "eth0", "labctr0"])
def test_an_interface_of_the_host_is_no_bridge_of_a_network_and_no_record_stays(
    engine: Engine, clean: None, name: str
) -> None:
    before = interfaces()
    with pytest.raises(Conflict, match=r"is not a bridge|networks have same bridge name"):
        engine.networks.create("own", options={BRIDGE: name})
    assert engine.networks.list({"type": "custom"}) == []
    assert interfaces() >= before


def test_a_record_that_names_an_interface_of_the_host_can_be_removed(engine: Engine, clean: None) -> None:
    network = engine.networks.create("own")
    network.bridge.remove()
    document = engine.data.networks.load(network.id)
    assert document is not None
    engine.data.networks.save({**document, "Options": {BRIDGE: "eth0"}})
    engine.networks.get("own").remove()
    assert engine.networks.list({"type": "custom"}) == []
    assert "eth0" in interfaces()


def test_two_networks_cannot_have_one_bridge(engine: Engine, clean: None) -> None:
    options = {"com.docker.network.bridge.name": "labctr_test3"}
    engine.networks.create("first", options=options, subnet="10.213.0.0/24")
    with pytest.raises(Conflict, match="labctr_test3"):
        engine.networks.create("second", options=options, subnet="10.214.0.0/24")
    assert "labctr_test3" in interfaces()
    assert [one.name for one in engine.networks.list({"type": "custom"})] == ["first"]


# -- IPv6 ---------------------------------------------------------------------------------------


def test_a_gateway_of_one_link_leads_out_over_it(engine: Engine, start: Start) -> None:
    engine.networks.create("link", enable_ipv6=True, subnet="fe80::/64", gateway="fe80::1001:1")
    inside = start(network="link", ipv6_address="fe80::1001:102").exec_run(["ip", "-6", "route", "show", "default"])
    assert b"default via fe80::1001:1 dev eth0" in inside.output


def test_a_network_with_ipv6_works_where_new_interfaces_have_it_switched_off(engine: Engine, start: Start) -> None:
    switch = Path("/proc/sys/net/ipv6/conf/default/disable_ipv6")
    before = switch.read_text()
    switch.write_text("1")
    try:
        engine.networks.create("six", enable_ipv6=True, subnet="fd00:213::/64")
        member = start(network="six")
    finally:
        switch.write_text(before)
    assert member.exec_run(["ping", "-6", "-c", "1", "-W", "20", "fd00:213::1"]).exit_code == 0


def test_a_network_with_ipv6_gives_addresses_and_publishes(engine: Engine, start: Start) -> None:
    engine.networks.create("six", enable_ipv6=True, subnet="fd00:213::/64")
    port = free_port()
    server = start(SERVER, network="six", name="server", ports={"80/tcp": port})
    client = start(network="six", name="client")
    settings = endpoint(server, "six")
    assert (settings["GlobalIPv6Address"], settings["GlobalIPv6PrefixLen"]) == ("fd00:213::2", 64)
    assert settings["IPv6Gateway"] == "fd00:213::1"
    assert client.exec_run(["ping", "-6", "-c", "1", "-W", "20", "fd00:213::2"]).exit_code == 0
    assert [one["HostIp"] for one in server.ports["80/tcp"]] == ["0.0.0.0", "::"]
    assert get(f"127.0.0.1:{port}") == server.short_id
    assert get(f"[fd00:213::1]:{port}") == server.short_id
    assert get(f"localhost:{port}") == server.short_id
    assert get(f"[::1]:{port}") == server.short_id
    four = start(SERVER, ports={"80/tcp": (alone := free_port())})
    assert get(f"[fd00:213::1]:{alone}") == four.short_id
    fetched = client.exec_run(["timeout", "20", "wget", "-qO-", f"http://[fd00:213::1]:{alone}/"])
    assert fetched.output.decode().strip() == four.short_id
    assert client.exec_run(["ping", "-6", "-c", "1", "-W", "20", "server"]).exit_code == 0


# -- many at once -------------------------------------------------------------------------------


def test_containers_of_several_processes_have_addresses_and_ports_of_their_own(
    engine: Engine, image: Image, web: Network, command: list[str], repository: Path, *, stress: bool
) -> None:
    script = (
        "import sys; from pylab_container import Engine; e = Engine(sys.argv[1])\n"
        "for _ in range(int(sys.argv[2])): e.containers.run_detached('busybox:1', ['sleep', '600'], "
        "network='web', ports={'80/tcp': None})\n"
    )
    counts = [7, 7, 6, 6, 6, 6, 6, 6] if stress else [3, 3, 3, 3]
    processes = [
        subprocess.Popen([command[0], "-c", script, str(engine.data_root), str(count)], cwd=repository)
        for count in counts
    ]
    assert [process.wait() for process in processes] == [0] * len(counts)
    containers = engine.containers.list()
    assert len(containers) == len({one.address for one in containers}) == sum(counts)
    assert len({one.ports["80/tcp"][0]["HostPort"] for one in containers}) == sum(counts)
    assert len(web.attrs["Containers"]) == sum(counts)
    resolved = {one.name: lookup(containers[0], f"{one.name}.") for one in containers}
    assert resolved == {one.name: [one.address] for one in containers}


# -- /etc ---------------------------------------------------------------------------------------


def test_host_gateway_and_dns_are_as_they_were_asked_for(engine: Engine, image: Image, web: Network) -> None:
    text = engine.containers.run(
        image,
        ["cat", "/etc/hosts", "/etc/resolv.conf"],
        network="web",
        extra_hosts={"machine": "host-gateway", "other": "192.0.2.9"},
        dns=["192.0.2.53"],
        dns_search=["lab.example"],
        remove=True,
    ).decode()
    gateway = web.attrs["IPAM"]["Config"][0]["Gateway"]
    for line in (f"{gateway}\tmachine", "192.0.2.9\tother", "nameserver 127.0.0.11", "search lab.example"):
        assert line in text.splitlines()
