"""volume and network, in docker's words; each command runs as a process once, the other calls in this process."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.support.commands import Labctr

pytestmark = pytest.mark.usefixtures("image")

SLEEP = ("busybox:1", "sleep", "1000")


@pytest.fixture
def network(labctr: Labctr) -> str:
    """A network by the name lab; its id."""
    return labctr("network", "create", "--label", "x=y", "lab").stdout.strip()


@pytest.fixture(autouse=True)
def _no_network_is_left(cli: Labctr) -> Iterator[None]:
    yield
    cli("rm", "-f", *cli("ps", "-aq").stdout.split(), "nosuch")
    cli("network", "prune", "-f")


# -- volumes -----------------------------------------------------------------------------------


def test_volumes_are_made_listed_and_removed(labctr: Labctr, cli: Labctr) -> None:
    anonymous = labctr("volume", "create").stdout.strip()
    assert re.fullmatch("[0-9a-f]{64}", anonymous)
    assert cli("volume", "create", "--label", "a=b", "data").stdout == "data\n"
    assert cli("volume", "create", "data").stdout == "data\n"
    assert cli("volume", "ls").stdout.splitlines()[0] == "DRIVER    VOLUME NAME"
    assert cli("volume", "ls", "-q").stdout.split() == sorted([anonymous, "data"])
    assert cli("volume", "ls", "--format", "{{.Name}} {{.Labels}} {{.Scope}}", "-f", "label=a").stdout == (
        "data a=b local\n"
    )
    [document] = json.loads(labctr("volume", "inspect", "data").stdout)
    assert (document["Driver"], document["Labels"], document["Scope"]) == ("local", {"a": "b"}, "local")
    assert cli("volume", "inspect", "-f", "{{.Mountpoint}}", "data").stdout.endswith("/volumes/data/_data\n")
    done = labctr("volume", "rm", "nosuch", "data", check=False)
    assert (done.returncode, done.stdout) == (1, "data\n")
    assert done.stderr.startswith("Error: get nosuch: no such volume")
    assert cli("volume", "rm", "-f", "nosuch").stdout == "nosuch\n"


def test_a_volume_in_use_stays(labctr: Labctr, cli: Labctr) -> None:
    container_id = cli("run", "-d", "-v", "data:/d", "-v", "/anonymous", *SLEEP).stdout.strip()
    done = cli("volume", "rm", "data", check=False)
    assert done.stderr.startswith(f"Error: remove data: volume is in use - [{container_id}]")
    assert len(labctr("volume", "ls", "-q", "-f", "dangling=false").stdout.split()) == 2
    cli("rm", "-f", container_id)
    assert "Total reclaimed space" in cli("volume", "prune", "-f").stdout
    assert cli("volume", "ls", "-q").stdout == "data\n"
    assert "Deleted Volumes:\ndata\n" in labctr("volume", "prune", "-af").stdout


def test_mistakes_about_volumes_are_reported(cli: Labctr) -> None:
    for arguments, words in (
        (["create", "-d", "foo", "x1"], "foo"),
        (["create", "bad name"], "includes invalid characters for a local volume name"),
        (["create", "-o", "type=nfs", "x1"], 'missing required option: "device"'),
        (["ls", "-f", "foo=1"], "Invalid filter 'foo'"),
        (["inspect", "nosuch"], "get nosuch: no such volume"),
    ):
        done = cli("volume", *arguments, check=False)
        assert (done.returncode, words in done.stderr) == (1, True), done.stderr


def test_prune_asks_first(labctr: Labctr, cli: Labctr) -> None:
    cli("volume", "create", "data")
    done = labctr("volume", "prune", "-a", input="n\n")
    assert done.stdout.startswith("WARNING! This will remove all local volumes not used by at least one container.")
    assert cli("volume", "ls", "-q").stdout == "data\n"


# -- networks ----------------------------------------------------------------------------------


def test_the_listing_of_networks_is_dockers(labctr: Labctr, cli: Labctr, network: str) -> None:
    lines = [line.split() for line in labctr("network", "ls").stdout.splitlines()]
    assert lines[0] == ["NETWORK", "ID", "NAME", "DRIVER", "SCOPE"]
    assert [line[1:] for line in lines[1:]] == [
        ["bridge", "bridge", "local"],
        ["host", "host", "local"],
        ["lab", "bridge", "local"],
        ["none", "null", "local"],
    ]
    assert cli("network", "ls", "-q", "--no-trunc", "-f", "label=x=y").stdout.strip() == network
    assert cli("network", "ls", "-f", "type=custom", "--format", '{{.Name}} {{.Label "x"}}').stdout == "lab y\n"
    assert cli("network", "ls", "-f", "driver=null", "--format", "{{.Name}}").stdout == "none\n"
    assert "Invalid filter 'foo'" in cli("network", "ls", "-f", "foo=1", check=False).stderr
    assert json.loads(cli("network", "ls", "--format", "json", "-f", "id=" + network).stdout)["Name"] == "lab"
    [document] = json.loads(labctr("network", "inspect", network[:6]).stdout)
    assert (document["Name"], document["Labels"], document["Driver"]) == ("lab", {"x": "y"}, "bridge")
    assert cli("network", "inspect", "-f", "{{range .IPAM.Config}}{{.Subnet}}{{end}}", "lab").stdout.count(".") == 3


def test_containers_on_a_network_know_each_other_by_name(cli: Labctr, network: str) -> None:
    cli("run", "-d", "--name", "db", "--network", "lab", "--network-alias", "store", *SLEEP)
    for name in ("db", "store"):
        done = cli("run", "--rm", "--network", "lab", "busybox:1", "ping", "-c1", "-W20", name)
        assert "1 packets received" in done.stdout
    assert cli("ps", "--filter", "network=lab", "--format", "{{.Names}} {{.Networks}}").stdout == "db lab\n"


def test_connecting_and_disconnecting(labctr: Labctr, cli: Labctr, network: str) -> None:
    cli("run", "-d", "--name", "web", *SLEEP)
    assert labctr("network", "connect", "--alias", "www", "lab", "web").stdout == ""
    assert cli("ps", "--format", "{{.Networks}}").stdout == "bridge,lab\n"
    assert cli("exec", "web", "ls", "/sys/class/net").stdout.split() == ["eth0", "eth1", "lo"]
    assert cli("network", "connect", "lab", "web", check=False).returncode == 1
    done = cli("network", "rm", "lab", check=False)
    assert (done.returncode, "has active endpoints" in done.stderr) == (1, True)
    assert labctr("network", "disconnect", "lab", "web").stdout == ""
    done = cli("network", "disconnect", "lab", "web", check=False)
    assert (done.returncode, "is not connected to" in done.stderr) == (1, True)
    assert cli("network", "rm", "lab", "nosuch", check=False).stdout == "lab\n"


def test_several_networks_may_be_given_at_once(cli: Labctr, network: str) -> None:
    cli("run", "-d", "--network", "bridge", "--network", "name=lab", *SLEEP)
    assert cli("ps", "--format", "{{.Networks}}").stdout == "bridge,lab\n"


def test_mistakes_about_networks_are_reported(cli: Labctr, network: str) -> None:
    for arguments, words in (
        (["create", "lab"], "network with name lab already exists"),
        (["create", "-d", "foo", "x1"], "foo"),
        (["create", "--subnet", "300.1.1.0/24", "x1"], "300.1.1.0/24"),
        (["create", "bridge"], "operation is not permitted on predefined bridge network"),
        (["rm", "bridge"], "bridge is a pre-defined network and cannot be removed"),
        (["inspect", "nosuch"], "network nosuch not found"),
        (["connect", "nosuch", "web"], "network nosuch not found"),
        (["connect", "lab", "nosuch"], "No such container: nosuch"),
    ):
        done = cli("network", *arguments, check=False)
        assert (done.returncode, words in done.stderr) == (1, True), (arguments, done.stderr)


def test_pruning_networks_removes_the_unused_ones(labctr: Labctr, cli: Labctr, network: str) -> None:
    cli("network", "create", "used")
    cli("run", "-d", "--network", "used", *SLEEP)
    assert labctr("network", "prune", "-f").stdout == "Deleted Networks:\nlab\n\n"
    assert cli("network", "ls", "-q", "-f", "name=used").stdout
