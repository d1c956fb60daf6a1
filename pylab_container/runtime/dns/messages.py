"""DNS messages (RFC 1035) with Docker's answers: made for runtime/dns/zone.py's words, sent by resolver.py."""

from __future__ import annotations

import random
from collections.abc import Collection

from pylab_container.host.extras import extra
from pylab_container.runtime.dns import zone

with extra("run"):
    from dnslib import AAAA, PTR, QTYPE, RCODE, RR, A, DNSError, DNSRecord

_TTL = 600  # seconds, as libnetwork's respTTL
_PLAIN = 512  # bytes over UDP, where the asker says nothing else (RFC 1035, 4.2.1)
_LONGEST = 4096  # bytes of a question: a name has 255, and options are few; reading takes time, and all others wait
_ID, _RESPONSE, _CODE = slice(0, 2), 0x80, 0x0F  # where a header has them (RFC 1035, 4.1.1)
_FAILURES = (RCODE.SERVFAIL, RCODE.REFUSED)


class Query:
    """A question somebody asked. Raises ValueError for bytes that are none."""

    def __init__(self, wire: bytes) -> None:
        if len(wire) > _LONGEST:
            raise ValueError("longer than any question")
        self.wire = wire
        try:
            self._message = DNSRecord.parse(wire)
        except DNSError as error:
            raise ValueError(str(error)) from error
        if self._message.header.qr or not self._message.questions:
            raise ValueError("a message that asks nothing")
        self._question = self._message.questions[0]
        self._name = str(self._question.qname).removesuffix(".")

    def answer(self, asker: zone.DnsClient, everybody: Collection[zone.DnsClient]) -> DNSRecord | None:
        """The answer, None where others must be asked for it."""
        kind = QTYPE.get(self._question.qtype)
        if kind == "PTR":
            name = zone.name_of(asker, everybody, self._name)
            return None if name is None else self._reply([PTR(name)])
        if kind not in ("A", "AAAA", "MX"):
            return None
        found = zone.addresses(asker, everybody, self._name)
        if found is None:
            is_hidden = kind != "MX" and not asker.single_labels and "." not in self._name
            return self._reply([]) if is_hidden else None
        random.shuffle(found)
        make = {"A": A, "AAAA": AAAA}.get(kind)
        return self._reply([make(one) for one in found if (":" in one) == (kind == "AAAA")] if make else [])

    def failure(self) -> DNSRecord:
        """That nobody could be asked."""
        reply = self._reply([])
        reply.header.rcode = RCODE.SERVFAIL
        return reply

    def datagram(self, reply: DNSRecord) -> bytes:
        """The reply as a datagram that the asker can take: where it is too long, a part that says so."""
        limit = max([_PLAIN, *(one.rclass for one in self._message.ar if one.rtype == QTYPE.OPT)])
        wire = bytes(reply.pack())
        while len(wire) > limit:
            reply.header.tc = 1
            del reply.rr[-1]
            wire = bytes(reply.pack())
        return wire

    def is_answered_by(self, wire: bytes) -> bool:
        """Whether these bytes can be the answer of another server."""
        return len(wire) >= 12 and wire[_ID] == self.wire[_ID] and bool(wire[2] & _RESPONSE)

    def _reply(self, data: list[A | AAAA | PTR]) -> DNSRecord:
        reply = self._message.reply(ra=1, aa=0)
        for one in data:
            reply.add_answer(RR(self._question.qname, self._question.qtype, rdata=one, ttl=_TTL))
        return reply


def is_failure(wire: bytes) -> bool:
    """Whether another server says that it could or would not answer."""
    return wire[3] & _CODE in _FAILURES
