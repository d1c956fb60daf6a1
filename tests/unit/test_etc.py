"""runtime/etc.py: hosts and resolv.conf, as a container gets them."""

from __future__ import annotations

import pytest

from pylab_container.runtime.etc import hosts_file, ndots, served_resolv_conf, with_address, with_dns, without_address


def test_an_address_comes_and_goes_and_leaves_the_rest() -> None:
    before = hosts_file("box", ["10.0.0.3"]) + "10.9.8.7 mine\n"
    after = with_address(before, "10.0.0.2", "box.lab box")
    assert after.removeprefix(before) == "10.0.0.2\tbox.lab box\n"
    assert without_address(after, "10.0.0.2") == before


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
            "search old.example\nnameserver 192.0.2.7\nnameserver 192.0.2.8\noptions ndots:2\n",
        ),
        (
            (),
            ("a.example", "b.example"),
            (),
            "search a.example b.example\nnameserver 192.0.2.1\noptions ndots:2\n",
        ),
        ((), (".",), (), "nameserver 192.0.2.1\noptions ndots:2\n"),
        ((), (), ("rotate",), "search old.example\nnameserver 192.0.2.1\noptions rotate\n"),
    ],
)
def test_dns_options_replace_the_hosts(
    servers: tuple[str, ...], search: tuple[str, ...], options: tuple[str, ...], expected: str
) -> None:
    assert with_dns(HOST, servers=servers, search=search, options=options) == expected


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("", "nameserver 127.0.0.11\noptions ndots:0\n"),
        (HOST, "search old.example\nnameserver 127.0.0.11\noptions ndots:2\n"),
        (
            "nameserver 127.0.0.53\nnameserver ::1\nnameserver 2001:db8::1\noptions rotate\n",
            "nameserver 127.0.0.11\nnameserver 2001:db8::1\noptions rotate ndots:0\n",
        ),
        ("search a\nsearch b c\noptions x\noptions y\n", "search b c\nnameserver 127.0.0.11\noptions y ndots:0\n"),
    ],
)
def test_a_container_with_our_name_server_asks_that(text: str, made: str) -> None:
    assert served_resolv_conf(text) == made


@pytest.mark.parametrize(("text", "number"), [("", 0), (HOST, 2), ("options ndots:x\n", 0), ("options ndots:0\n", 0)])
def test_how_many_dots_a_name_must_have(text: str, number: int) -> None:
    assert ndots(text) == number
