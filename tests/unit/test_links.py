"""networks/link_variables.py: the aliases of a link, and its environment variables."""

from __future__ import annotations

import pytest

from pylab_container.errors import InvalidInput
from pylab_container.networks.link_variables import link_environment, link_pairs, parse_link
from pylab_container.runtime.etc import with_address_of


@pytest.mark.parametrize(
    ("text", "pair"),
    [("db", ("db", "db")), ("db:sql", ("db", "sql")), ("db:/sql", ("db", "sql")), ("/db:/web/sql", ("db", "sql"))],
)
def test_a_link_is_a_name_and_an_alias(text: str, pair: tuple[str, str]) -> None:
    assert parse_link(text) == pair


@pytest.mark.parametrize("text", ["", ":", "a:", ":b", "a:b:c"])
def test_what_is_no_link_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_link(text)


def test_docker_pys_spellings_mean_the_same() -> None:
    expected = [("db", "sql"), ("cache", "cache")]
    assert link_pairs({"db": "sql", "cache": "cache"}) == expected
    assert link_pairs([("db", "sql"), ("cache", "")]) == expected
    assert link_pairs(["db:sql", "cache"]) == expected


def told(*exposed: str, environment: tuple[str, ...] = ()) -> list[str]:
    return link_environment("/web/my-sql", "10.0.0.2", environment=environment, exposed=exposed)


def test_without_ports_there_is_only_the_name() -> None:
    assert told() == ["MY_SQL_NAME=/web/my-sql"]


def test_the_lowest_port_is_the_default_one_and_tcp_comes_first() -> None:
    assert told("80/udp", "80/tcp")[0] == "MY_SQL_PORT=tcp://10.0.0.2:80"
    assert "MY_SQL_PORT_80_UDP_PROTO=udp" in told("80/udp", "80/tcp")


def test_three_ports_in_a_row_are_a_range_and_two_are_not() -> None:
    assert "MY_SQL_PORT_80_TCP_END=tcp://10.0.0.2:82" in told("80/tcp", "81/tcp", "82/tcp", "90/tcp")
    assert not [text for text in told("80/tcp", "81/tcp") if "_START" in text]
    assert not [text for text in told("80/tcp", "82/tcp", "84/tcp") if "_START" in text]


def test_its_variables_come_along_but_for_home_and_path() -> None:
    assert told(environment=("A=b=c", "HOME=/x", "PATH=/y", "NOTHING"))[1:] == ["MY_SQL_ENV_A=b=c"]


def test_a_name_gets_another_address_and_its_lines_stay_in_their_places() -> None:
    text = "127.0.0.1\tlocalhost\n10.0.0.2\tsql id db\nfd00::2\tsql id db\n10.0.0.3\tweb\n"
    assert with_address_of(text, "sql", "10.0.0.9") == text.replace("10.0.0.2", "10.0.0.9")
    assert with_address_of(text, "sql", "") == "127.0.0.1\tlocalhost\n10.0.0.3\tweb\n"
    assert with_address_of(text, "db", "10.0.0.9") == text
