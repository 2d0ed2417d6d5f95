"""Answer for a fixed zone over DNS: ``pip install dnspython``, ``api_hour zone:Container`` in this
folder.

Try it with ``dig -p 5353 @127.0.0.1 www.example``. Edit example.zone and send HUP: what cannot be
read leaves the old zone in place.
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
OURS = 1232  # bytes of an answer that pass every network unfragmented: dnsflagday.net/2020
MOST_LINKS = 8  # CNAMEs followed for one question


class Zone(asyncio.DatagramProtocol):
    """Answer each datagram by itself; one that is no question is dropped, as a peer may lie."""

    def __init__(self, zone: dns.zone.Zone) -> None:
        self.zone = zone

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        try:
            query = dns.message.from_wire(data, ignore_trailing=True)
        except dns.exception.DNSException:
            return
        if query.flags & dns.flags.QR:  # an answer to an answer would go on for ever
            return
        size = min(max(query.payload, 512), OURS) if query.edns >= 0 else 512
        self.transport.sendto(self.answer(query, size), address)

    def answer(self, query: dns.message.Message, size: int) -> bytes:
        response = dns.message.make_response(query, our_payload=OURS)
        response.set_rcode(self.fill(response))
        try:
            return response.to_wire(max_size=size)
        except dns.exception.TooBig:  # the client asks again over TCP
            for section in (response.answer, response.authority):
                section.clear()
            response.flags |= dns.flags.TC
            return response.to_wire()

    def fill(self, response: dns.message.Message) -> dns.rcode.Rcode:
        """Put in what the zone knows, and return how that went."""
        if response.opcode() != dns.opcode.QUERY:
            return dns.rcode.NOTIMP
        if len(response.question) != 1:
            return dns.rcode.FORMERR
        [question] = response.question
        name = question.name
        if question.rdclass != dns.rdataclass.IN or not name.is_subdomain(ORIGIN):
            return dns.rcode.REFUSED
        response.flags |= dns.flags.AA
        for _ in range(MOST_LINKS):
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
        # A name that only has names below it exists: RFC 8020.
        exists = any(known.is_subdomain(name) for known in self.zone.nodes)
        return dns.rcode.NOERROR if exists else dns.rcode.NXDOMAIN


class Container(api_hour.Container):
    def servers(self) -> dict[str, api_hour.Server]:
        zone = dns.zone.from_file("example.zone", ORIGIN, relativize=False)
        return {"dns": api_hour.DatagramServer(lambda: Zone(zone))}
