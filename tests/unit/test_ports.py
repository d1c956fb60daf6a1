"""oci/ports.py: the grammar of -p, and Docker's documents."""

from __future__ import annotations

import pytest

from pylab_container.errors import InvalidInput
from pylab_container.oci.ports import (
    PortRange,
    PortRequest,
    PublishedPort,
    parse_expose,
    parse_publish,
    ports_document,
    requests,
)


@pytest.mark.parametrize(
    ("spec", "bindings"),
    [
        ("80", {"80/tcp": [("", "")]}),
        ("8080:80", {"80/tcp": [("", "8080")]}),
        (":80", {"80/tcp": [("", "")]}),
        ("53:53/udp", {"53/udp": [("", "53")]}),
        ("53:53/UDP", {"53/udp": [("", "53")]}),
        ("127.0.0.1:8080:80", {"80/tcp": [("127.0.0.1", "8080")]}),
        ("127.0.0.1::80", {"80/tcp": [("127.0.0.1", "")]}),
        ("[::1]:8080:80", {"80/tcp": [("::1", "8080")]}),
        ("[::]:8080:80/tcp", {"80/tcp": [("::", "8080")]}),
        ("8000-8009:80", {"80/tcp": [("", "8000-8009")]}),
        ("8000-8001:80-81", {"80/tcp": [("", "8000")], "81/tcp": [("", "8001")]}),
        ("80-81", {"80/tcp": [("", "")], "81/tcp": [("", "")]}),
        ("0:80", {"80/tcp": [("", "0")]}),
    ],
)
def test_a_spec_becomes_bindings(spec: str, bindings: dict[str, list[tuple[str, str]]]) -> None:
    exposed, found = parse_publish([spec])
    assert {name: [(one["HostIp"], one["HostPort"]) for one in entries] for name, entries in found.items()} == bindings
    assert exposed == {name: {} for name in bindings}


def test_one_port_may_be_published_twice() -> None:
    _, bindings = parse_publish(["8080:80", "8081:80"])
    assert [binding["HostPort"] for binding in bindings["80/tcp"]] == ["8080", "8081"]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("", "No port specified"),
        ("8080:", "No port specified"),
        ("http", "Invalid containerPort: http"),
        ("8080:http", "Invalid containerPort: http"),
        ("x:80", "Invalid hostPort: x"),
        ("80/sctpp", "Invalid proto: sctpp"),
        ("80/", "Invalid proto"),
        ("65536", "Invalid containerPort"),
        ("0", "Invalid containerPort"),
        ("70000:80", "Invalid hostPort"),
        ("-1:80", "Invalid hostPort"),
        ("٣:80", "Invalid hostPort"),
        ("90-80", "Invalid containerPort: 90-80"),
        ("8000-8001:80-82", "Invalid ranges"),
        ("localhost:8080:80", "Invalid ip address: localhost"),
        ("::1:8080:80", "Invalid ip address"),
        ("1.2.3:8080:80", "Invalid ip address"),
        ("1.2.3.4:5:6:7", "Invalid ip address"),
    ],
)
def test_a_spec_that_means_nothing_is_refused(spec: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        parse_publish([spec])


def test_expose_takes_ranges() -> None:
    assert list(parse_expose(["80", "8000-8002/udp"])) == ["80/tcp", "8000/udp", "8001/udp", "8002/udp"]
    for bad in ("", "x", "80:80", "0", "1-"):
        with pytest.raises(InvalidInput):
            parse_expose([bad])


def test_publish_all_adds_the_exposed_ports() -> None:
    bindings = {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8000-8009"}]}
    first = PortRequest(container_port=80, host_ip="127.0.0.1", host_ports=PortRange(8000, 8009))
    assert requests(["53/udp", "80/tcp"], bindings, publish_all=False) == [first]
    everything = requests(["53/udp", "80/tcp"], bindings, publish_all=True)
    assert everything == [PortRequest(container_port=53, protocol="udp"), first]


def test_no_entry_and_port_zero_leave_the_choice_to_the_machine() -> None:
    wanted = [PortRequest(container_port=80)]
    choices: list[list[dict[str, str]] | None] = [[], None, [{}], [{"HostPort": "0"}], [{"HostIp": "", "HostPort": ""}]]
    for entries in choices:
        assert requests([], {"80/tcp": entries}, publish_all=False) == wanted


def test_the_ports_document_tells_published_and_exposed() -> None:
    published = [PublishedPort(host_ip="0.0.0.0", host_port=8080, container_port=80, protocol="tcp")]
    assert ports_document(["443/tcp", "80/tcp"], published) == {
        "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}],
        "443/tcp": None,
    }
