"""What -o says to the drivers of networks and of volumes."""

from __future__ import annotations

import pytest

from pylab_container.errors import InvalidInput
from pylab_container.networks.bridge_options import DEFAULT_BRIDGE, BridgeOptions, bridge_options, check_bridge_options
from pylab_container.volumes import driver_options
from pylab_container.volumes.driver_options import volume_mount

BRIDGE = "com.docker.network.bridge."


def test_nothing_said_and_what_the_bridge_does_not_know_is_the_usual_bridge() -> None:
    assert bridge_options(DEFAULT_BRIDGE) == BridgeOptions(name="labctr0")
    assert bridge_options({}) == bridge_options({"note": "mine", "com.example.x": "y"}) == BridgeOptions()


def test_each_option_of_a_bridge_is_of_its_type() -> None:
    given = {
        f"{BRIDGE}name": "br-x",
        f"{BRIDGE}enable_icc": "false",
        f"{BRIDGE}enable_ip_masquerade": "0",
        f"{BRIDGE}host_binding_ipv4": "127.0.0.1",
        "com.docker.network.driver.mtu": "1400",
    }
    expected = BridgeOptions(name="br-x", connectivity=False, masquerade=False, binding="127.0.0.1", mtu=1400)
    assert bridge_options(given) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (f"{BRIDGE}enable_icc", "maybe"),
        (f"{BRIDGE}enable_ip_masquerade", ""),
        (f"{BRIDGE}host_binding_ipv4", "::1"),
        ("com.docker.network.driver.mtu", "12"),
        ("com.docker.network.driver.mtu", "²"),
        (f"{BRIDGE}default_bridge", "true"),
        ("com.docker.network.container_iface_prefix", "net"),
    ],
)
def test_a_value_that_cannot_be_and_what_is_not_done_is_refused(name: str, value: str) -> None:
    with pytest.raises(InvalidInput, match=name):
        check_bridge_options({name: value})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"x": "y"}, 'invalid option: "x"'),
        ({"type": "tmpfs"}, 'missing required option: "device"'),
        ({"device": "tmpfs"}, 'missing required option: "type"'),
        ({"type": "tmpfs", "device": "tmpfs", "size": "1m"}, "no quota support"),
    ],
)
def test_options_that_mean_no_mount_are_refused(options: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        driver_options.check_driver_options(options)


def test_flags_go_to_mount_and_the_rest_to_the_file_system() -> None:
    found = volume_mount({"type": "tmpfs", "device": "tmpfs", "o": "ro,noexec,size=1m,uid=7,rw"})
    assert (found.flags, found.data, found.remount_flags) == (8, "size=1m,uid=7", 0)


def test_a_bind_needs_a_second_call_for_its_flags() -> None:
    found = volume_mount({"type": "none", "device": "/srv", "o": "bind,ro"})
    assert (found.flags & 4096, found.remount_flags) == (4096, 4096 | 32 | 1)
    assert volume_mount({"type": "none", "device": "/srv", "o": "bind"}).remount_flags == 0


def test_the_server_of_a_network_file_system_is_in_its_data() -> None:
    assert volume_mount({"type": "nfs", "device": ":/x", "o": "addr=nas.example,rw"}).address == "nas.example"
    assert volume_mount({"type": "none", "device": "/x", "o": "bind"}).address == ""
