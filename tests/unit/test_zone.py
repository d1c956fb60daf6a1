"""runtime/dns/zone.py: names and addresses by network; runtime/dns/messages.py: DNS messages as bytes."""

from __future__ import annotations

import pytest
from dnslib import EDNS0, QTYPE, RCODE, DNSRecord
from hypothesis import given
from hypothesis import strategies as st

from pylab_container.runtime.dns.messages import Query, is_failure
from pylab_container.runtime.dns.zone import DnsClient, NetworkMembership, addresses, name_of


def on(
    network: str, name: str, address: str, *aliases: str, links: dict[str, str] | None = None
) -> dict[str, NetworkMembership]:
    place = NetworkMembership(network=network, names=(name, *aliases), addresses=(address,), links=links or {})
    return {f"id of {network}": place}


def resident(*places: dict[str, NetworkMembership], single_labels: bool = True) -> DnsClient:
    joined = {number: place for one in places for number, place in one.items()}
    return DnsClient(pid=1, namespace=1, memberships=joined, single_labels=single_labels)


WEB = resident(on("Shop", "web", "10.1.0.2", "www", "pool"), on("back.end", "web", "10.2.0.2"))
SPARE = resident(on("Shop", "Spare", "10.1.0.3", "pool"))
DATABASE = resident(on("back.end", "db", "10.2.0.3", links={"web": "db", "site": "web"}))
CLIENT = resident(on("Shop", "client", "10.1.0.4", links={"www": "spare", "gone": "nobody"}))
SIX = resident({"id of six": NetworkMembership(network="six", names=("six",), addresses=("10.3.0.2", "fd00::2"))})
QUESTION = bytes.fromhex("123401000001000000000000")  # the header of one (RFC 1035, 4.1.1)
EVERYBODY = [WEB, SPARE, DATABASE, CLIENT, SIX]


@pytest.mark.parametrize(
    ("asker", "name", "found"),
    [
        (SPARE, "web", ["10.1.0.2"]),
        (SPARE, "WWW", ["10.1.0.2"]),
        (WEB, "spare", ["10.1.0.3"]),
        (WEB, "pool", ["10.1.0.2", "10.1.0.3"]),
        (WEB, "web", ["10.1.0.2"]),
        (WEB, "web.back.end", ["10.2.0.2"]),
        (WEB, "pool.shop", ["10.1.0.2", "10.1.0.3"]),
        (WEB, "web.elsewhere", None),
        (SPARE, "db", None),
        (SPARE, "web.back.end", None),
        (SPARE, "nobody", None),
        (SPARE, "", None),
        (SPARE, "shop", None),
        (SPARE, ".shop", None),
        (CLIENT, "www", ["10.1.0.3"]),
        (CLIENT, "www.shop", ["10.1.0.3"]),
        (CLIENT, "gone", None),
        (DATABASE, "web", ["10.2.0.3"]),
        (DATABASE, "site", ["10.2.0.2"]),
        (WEB, "site", None),
        (SIX, "six", ["10.3.0.2", "fd00::2"]),
    ],
)
def test_a_name_means_those_who_have_it_on_the_askers_networks(
    asker: DnsClient, name: str, found: list[str] | None
) -> None:
    assert addresses(asker, EVERYBODY, name) == found


@pytest.mark.parametrize(
    ("asker", "pointer", "name"),
    [
        (SPARE, "2.0.1.10.in-addr.arpa", "web.Shop"),
        (SPARE, "2.0.2.10.IN-ADDR.arpa", None),
        (WEB, "3.0.2.10.IN-ADDR.arpa", "db.back.end"),
        (SIX, "2" + ".0" * 27 + ".0.0.d.f.ip6.arpa", "six.six"),
        (SPARE, "in-addr.arpa", None),
    ],
)
def test_an_address_belongs_to_somebody_on_the_askers_networks(
    asker: DnsClient, pointer: str, name: str | None
) -> None:
    assert name_of(asker, EVERYBODY, pointer) == name


def ask(name: str, kind: str = "A", *, size: int = 0) -> Query:
    question = DNSRecord.question(name, kind)
    if size:
        question.add_ar(EDNS0(udp_len=size))
    return Query(bytes(question.pack()))


@pytest.mark.parametrize(
    ("asker", "name", "kind", "answers"),
    [
        (SPARE, "Web", "A", ["10.1.0.2"]),
        (SPARE, "web", "AAAA", []),
        (SPARE, "web", "MX", []),
        (SIX, "six", "AAAA", ["fd00::2"]),
        (SIX, "six", "A", ["10.3.0.2"]),
        (SPARE, "2.0.1.10.in-addr.arpa", "PTR", ["web.Shop."]),
        (resident(single_labels=False), "nobody", "AAAA", []),
    ],
)
def test_who_is_here_is_answered(asker: DnsClient, name: str, kind: str, answers: list[str]) -> None:
    reply = ask(name, kind).answer(asker, EVERYBODY)
    assert reply is not None
    header = reply.header
    assert (header.rcode, header.qr, header.rd, header.ra, header.aa) == (RCODE.NOERROR, 1, 1, 1, 0)
    assert [str(one.rdata) for one in reply.rr] == answers
    assert all((str(one.rname), one.ttl, QTYPE[one.rtype]) == (f"{name}.", 600, kind) for one in reply.rr)


@pytest.mark.parametrize(
    ("asker", "name", "kind"),
    [
        (SPARE, "db", "A"),
        (SPARE, "web", "TXT"),
        (SPARE, "1.1.1.1.in-addr.arpa", "PTR"),
        (resident(single_labels=False), "nobody.test", "A"),
        (resident(single_labels=False), "nobody", "MX"),
    ],
)
def test_who_is_not_here_is_asked_for_elsewhere(asker: DnsClient, name: str, kind: str) -> None:
    assert ask(name, kind).answer(asker, EVERYBODY) is None


def test_several_addresses_are_turned_round() -> None:
    replies = [ask("pool").answer(WEB, EVERYBODY) for _ in range(60)]
    assert {str(one.rr[0].rdata) for one in replies if one} == {"10.1.0.2", "10.1.0.3"}


@pytest.mark.parametrize(("size", "fit"), [(0, 30), (100, 30), (1232, 75), (4096, 100)])
def test_a_datagram_is_as_long_as_the_asker_can_take(size: int, fit: int) -> None:
    crowd = [resident(on("Shop", f"c{number}", f"10.1.1.{number}", "crowd")) for number in range(100)]
    query = ask("crowd", size=size)
    reply = query.answer(SPARE, crowd)
    assert reply is not None
    sent = DNSRecord.parse(query.datagram(reply))
    assert (len(sent.rr), bool(sent.header.tc)) == (fit, fit < 100)


def test_nobody_to_ask_is_a_failure() -> None:
    query = ask("nobody")
    wire = bytes(query.failure().pack())
    assert is_failure(wire)
    assert query.is_answered_by(wire)
    another = Query(bytes([query.wire[0] ^ 1]) + query.wire[1:])  # by its id; of two that are drawn, some are equal
    assert not another.is_answered_by(wire)
    assert not query.is_answered_by(query.wire)


@given(st.binary(max_size=100) | st.just(QUESTION + bytes(5000)) | st.binary(max_size=60).map(QUESTION.__add__))
def test_bytes_that_are_no_question_are_told_apart(wire: bytes) -> None:
    try:
        query = Query(wire)
    except ValueError:
        return
    reply = query.answer(WEB, EVERYBODY) or query.failure()
    assert query.is_answered_by(query.datagram(reply))
