"""A DNS server for a fixed zone: ``pip install dnspython``, ``api_hour zone:Container`` in this
folder.

Try it with ``dig -p 5353 @127.0.0.1 www.example``. Edit example.zone and send HUP: if the new zone
cannot be parsed, the old one stays in use.
"""

import asyncio
from typing import cast

import api_hour
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.zone

ORIGIN = dns.name.from_text("example.")
MAX_SIZE = 1232  # bytes that pass every network unfragmented: dnsflagday.net/2020
MAX_LINKS = 8  # CNAMEs followed for one question


class Zone(asyncio.DatagramProtocol):
    """Answers each query by itself; drops what is not a query, whose sender may be forged."""

    def __init__(self, zone: dns.zone.Zone) -> None:
        self.zone = zone

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        try:
            query = dns.message.from_wire(data, ignore_trailing=True)
        except dns.exception.DNSException:
            return
        if query.flags & dns.flags.QR:  # two servers that answered answers would never stop
            return
        size = min(max(query.payload, 512), MAX_SIZE) if query.edns >= 0 else 512
        self.transport.sendto(self.answer(query, size), address)

    def answer(self, query: dns.message.Message, size: int) -> bytes:
        response = dns.message.make_response(query, our_payload=MAX_SIZE)
        response.set_rcode(self.fill(response))
        try:
            return response.to_wire(max_size=size)
        except dns.exception.TooBig:  # truncated: the client will ask again over TCP
            for section in (response.answer, response.authority):
                section.clear()
            response.flags |= dns.flags.TC
            return response.to_wire()

    def fill(self, response: dns.message.Message) -> dns.rcode.Rcode:
        """Add what the zone knows of the question; return the response code."""
        if response.opcode() != dns.opcode.QUERY:
            return dns.rcode.NOTIMP
        if len(response.question) != 1:
            return dns.rcode.FORMERR
        [question] = response.question
        name = question.name
        if question.rdclass != dns.rdataclass.IN or not name.is_subdomain(ORIGIN):
            return dns.rcode.REFUSED
        response.flags |= dns.flags.AA
        for _ in range(MAX_LINKS):
            if found := self.zone.get_rrset(name, question.rdtype):
                response.answer.append(found)
                return dns.rcode.NOERROR
            if not (alias := self.zone.get_rrset(name, dns.rdatatype.CNAME)):
                break
            response.answer.append(alias)
            name = alias[0].target
            if not name.is_subdomain(ORIGIN):
                return dns.rcode.NOERROR
        response.authority.append(self.zone.find_rrset(ORIGIN, dns.rdatatype.SOA))
        # A name exists if there are names below it, even without records: RFC 8020.
        exists = any(known.is_subdomain(name) for known in self.zone.nodes)
        return dns.rcode.NOERROR if exists else dns.rcode.NXDOMAIN


class Container(api_hour.Container):
    def servers(self) -> dict[str, api_hour.Server]:
        zone = dns.zone.from_file("example.zone", ORIGIN, relativize=False)
        return {"dns": api_hour.DatagramServer(lambda: Zone(zone))}
