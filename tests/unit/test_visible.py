"""text/visible.py and text/address.py: text from outside in files of lines, in rules and on terminals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pylab_container.docker.hostconfig import extra_hosts
from pylab_container.docker.options import Host, documents
from pylab_container.errors import InvalidInput
from pylab_container.networks.addresses import parse_address
from pylab_container.networks.endpoint_documents import endpoint_request
from pylab_container.networks.link_variables import parse_link
from pylab_container.oci.ports import parse_publish
from pylab_container.runtime import etc
from pylab_container.runtime.network import addresses
from pylab_container.text.address import parse_ip, parse_network
from pylab_container.text.visible import check_line, visible, visible_lines

ZONE = "%x;flush ruleset;"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, ä and 漢", "plain, ä and 漢"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("a\r\nb\tc\0", "a\\r\\nb\\tc\\x00"),
        ("\x7f", "\\x7f"),
        ("left\u202eright", "left\\u202eright"),
        ("\u2028", "\\u2028"),
        (b"\xff".decode(errors="surrogateescape"), "\\xff"),
        ("\ud800", "\\ud800"),
    ],
    ids=ascii,
)
def test_control_characters_are_shown_escaped(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert visible(text).isprintable()


def test_lines_stay_lines() -> None:
    assert visible_lines("one\ttwo\nthree\r\x1b[A") == "one\ttwo\nthree\\r\\x1b[A"


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\0b", "\x1b", "\x85", "\u2028", "\udcff"], ids=ascii)
@pytest.mark.parametrize(
    "use",
    [
        lambda text: check_line(text, "word"),
        lambda text: extra_hosts([f"{text}:10.0.0.1"]),
        lambda text: extra_hosts([f"name:10.0.0.1{text}"]),
        lambda text: extra_hosts({"name": f"fe80::1%{text}"}),
        lambda text: parse_link(f"other:{text}"),
        lambda text: endpoint_request(aliases=[text]),
        lambda text: endpoint_request(ipv6_address=f"fd00::1%{text}"),
        lambda text: etc.hosts_file(text, ["10.0.0.1"]),
        lambda text: etc.hosts_file("own", extra=[(text, "10.0.0.1")]),
        lambda text: etc.hosts_file("own", [f"fe80::1%{text}"]),
        lambda text: etc.with_address("", "10.0.0.1", text),
        lambda text: etc.with_dns("", servers=[text], search=[], options=[]),
        lambda text: etc.with_dns("", servers=[], search=[text], options=[]),
        lambda text: etc.with_dns("", servers=[], search=[], options=[text]),
        *(
            lambda text, name=name, many=many: made({name: [text] if many else text})
            for name, many in (
                ("domainname", False),
                ("hostname", False),
                ("dns", True),
                ("dns_search", True),
                ("dns_opt", True),
                ("extra_hosts", True),
                ("network_aliases", True),
                ("links", True),
                ("mac_address", False),
            )
        ),
    ],
)
def test_a_word_of_a_file_of_lines_has_one_line(use: Callable[[str], object], text: str) -> None:
    with pytest.raises(InvalidInput):
        use(text)


def made(options: dict[str, Any]) -> object:
    return documents("0" * 64, {}, ["true"], options, image_name="image", host=Host("host", 1))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "use",
    [
        lambda: parse_ip(f"fd00::1{ZONE}"),
        lambda: parse_network(f"fd00::{ZONE}/64"),
        lambda: parse_address(f"fd00::1{ZONE}"),
        lambda: addresses.parse_subnet6(f"fd00::{ZONE}/64"),
        lambda: addresses.parse_range(f"fd00::{ZONE}/64", addresses.parse_subnet6("fd00::/64")),
        lambda: addresses.parse_member(f"fd00::1{ZONE}", addresses.parse_subnet6("fd00::/64"), what="gateway"),
        lambda: parse_publish([f"[fd00::1{ZONE}]:80:80"]),
        lambda: extra_hosts([f"name:fd00::1{ZONE}"]),
    ],
)
def test_an_address_has_no_zone_that_would_go_on_as_a_rule_of_nft(use: Callable[[], object]) -> None:
    with pytest.raises((InvalidInput, ValueError)):
        use()
