"""formats/etc.py: hosts and resolv.conf, as a container gets them."""

from __future__ import annotations

import pytest

from pylab_container.formats.etc import hosts_file, with_dns, with_network, without_address

LINES = [("10.0.0.2", "web 0123456789ab www"), ("10.0.0.3", "client")]


def test_a_networks_names_come_and_go_and_leave_the_rest() -> None:
    before = hosts_file("box", "10.0.0.3") + "10.9.8.7 mine\n"
    after = with_network(before, "shop", LINES)
    assert after.startswith(before)
    assert "10.0.0.2\tweb 0123456789ab www\n" in after
    assert with_network(after, "shop", LINES) == after
    assert with_network(after, "shop", []) == before


def test_two_networks_do_not_touch_each_other() -> None:
    both = with_network(with_network("", "one", LINES[:1]), "one-more", LINES[1:])
    assert with_network(both, "one", []) == with_network("", "one-more", LINES[1:])


def test_a_block_without_an_end_is_replaced_whole() -> None:
    cut = with_network("127.0.0.1 localhost\n", "shop", LINES).rsplit("\n", 2)[0]
    assert with_network(cut, "shop", []) == "127.0.0.1 localhost\n"


def test_an_address_goes_with_all_its_lines() -> None:
    assert without_address("10.0.0.2\ta\n10.0.0.20\tb\n\n10.0.0.2 c\n", "10.0.0.2") == "10.0.0.20\tb\n\n"


HOST = "domain old\nsearch old.example\nnameserver 192.0.2.1\noptions ndots:2\n# a comment\n"


@pytest.mark.parametrize(
    ("servers", "search", "options", "expected"),
    [
        ((), (), (), HOST),
        (
            ("192.0.2.7", "192.0.2.8"),
            (),
            (),
            "domain old\nsearch old.example\noptions ndots:2\n# a comment\n"
            "nameserver 192.0.2.7\nnameserver 192.0.2.8\n",
        ),
        (
            (),
            ("a.example", "b.example"),
            (),
            "nameserver 192.0.2.1\noptions ndots:2\n# a comment\nsearch a.example b.example\n",
        ),
        ((), (".",), (), "nameserver 192.0.2.1\noptions ndots:2\n# a comment\n"),
        ((), (), ("rotate",), "domain old\nsearch old.example\nnameserver 192.0.2.1\n# a comment\noptions rotate\n"),
    ],
)
def test_dns_options_replace_the_hosts(
    servers: tuple[str, ...], search: tuple[str, ...], options: tuple[str, ...], expected: str
) -> None:
    assert with_dns(HOST, servers=servers, search=search, options=options) == expected
