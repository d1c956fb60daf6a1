"""DNS messages (RFC 1035): parse a container's query, and build Docker's answer to it from zone.py's data."""

from __future__ import annotations

import random
from collections.abc import Collection

from pylab_container.host.extras import extra
from pylab_container.runtime.dns import zone

with extra("run"):
    from dnslib import AAAA, PTR, QTYPE, RCODE, RR, A, DNSError, DNSRecord

_TTL = 600  # seconds, as libnetwork's respTTL
_DATAGRAM_SIZE = 512  # bytes over UDP, unless the client's EDNS option allows more (RFC 1035, 4.2.1; RFC 6891, 6.2.3)
# A query has one name of at most 255 bytes, and few options. The time of parsing is proportional to the size, and the
# resolver has one thread: parsing a long message would delay the answers to all other containers.
_LARGEST_QUERY = 4096  # bytes
# Fields of the header (RFC 1035, 4.1.1).
_HEADER_SIZE = 12  # bytes
_ID, _RESPONSE, _CODE = slice(0, 2), 0x80, 0x0F
_FAILURES = (RCODE.SERVFAIL, RCODE.REFUSED)


class Query:
    """A query of a container. The constructor raises ValueError for bytes that are not a query."""

    def __init__(self, wire: bytes) -> None:
        if len(wire) > _LARGEST_QUERY:
            raise ValueError("longer than any query")
        self.wire = wire
        try:
            self._message = DNSRecord.parse(wire)
        except DNSError as error:
            raise ValueError(str(error)) from error
        if self._message.header.qr or not self._message.questions:
            raise ValueError("a message without a question")
        self._question = self._message.questions[0]
        self._name = str(self._question.qname).removesuffix(".")

    def answer(self, client: zone.DnsClient, clients: Collection[zone.DnsClient]) -> DNSRecord | None:
        """Answer the query of client from the names of clients; None if an upstream server must answer."""
        kind = QTYPE.get(self._question.qtype)
        if kind == "PTR":
            name = zone.name_of(client, clients, self._name)
            return None if name is None else self._reply([PTR(name)])
        if kind not in ("A", "AAAA", "MX"):
            return None
        addresses = zone.addresses(client, clients, self._name)
        if addresses is None:
            # With ndots > 0 the client tries its search domains first. A name without a dot can then only be that of a
            # container, so it is not forwarded (libnetwork's resolver.go).
            is_local = kind != "MX" and not client.single_labels and "." not in self._name
            return self._reply([]) if is_local else None
        # Several containers may share an alias. Clients use the first address, so shuffling balances the load.
        random.shuffle(addresses)
        # If a container's name has no record of the requested type (MX, or an address of the other IP version), the
        # answer is empty. An upstream server would answer that the name does not exist (NXDOMAIN), for all types.
        record_type = {"A": A, "AAAA": AAAA}.get(kind)
        if record_type is None:
            return self._reply([])
        return self._reply([record_type(text) for text in addresses if (":" in text) == (kind == "AAAA")])

    def failure(self) -> DNSRecord:
        """The answer SERVFAIL, which means that no upstream server answered."""
        reply = self._reply([])
        reply.header.rcode = RCODE.SERVFAIL
        return reply

    def datagram(self, reply: DNSRecord) -> bytes:
        """Serialize a reply for UDP. A reply that is too long for the client is truncated, with the flag TC set."""
        limit = max([_DATAGRAM_SIZE, *(record.rclass for record in self._message.ar if record.rtype == QTYPE.OPT)])
        wire = bytes(reply.pack())
        # A client repeats a truncated query over TCP (RFC 1035, 4.2.1).
        while len(wire) > limit:
            reply.header.tc = 1
            del reply.rr[-1]
            wire = bytes(reply.pack())
        return wire

    def is_answered_by(self, wire: bytes) -> bool:
        """Whether bytes from an upstream server are a response with this query's id."""
        return len(wire) >= _HEADER_SIZE and wire[_ID] == self.wire[_ID] and bool(wire[2] & _RESPONSE)

    def _reply(self, data: list[A | AAAA | PTR]) -> DNSRecord:
        reply = self._message.reply(ra=1, aa=0)
        for item in data:
            reply.add_answer(RR(self._question.qname, self._question.qtype, rdata=item, ttl=_TTL))
        return reply


def is_failure(wire: bytes) -> bool:
    """Whether an upstream server's response is SERVFAIL or REFUSED."""
    return wire[3] & _CODE in _FAILURES
