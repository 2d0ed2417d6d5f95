"""dns_udp: every query is answered as the RFCs demand."""

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import dns.flags
import dns.message
import dns.opcode
import dns.query
import dns.rcode
import pytest

from testkit.processes import Daemon
from testkit.waiting import TIMEOUT
from testkit.reloads import reload, work_through_three_reloads

EXAMPLE = Path(__file__).parents[1] / "dns_udp"
ARGUMENTS = ("zone:Container", "--workers=2", "--listen=dns=udp://127.0.0.1:0")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a copy of the example, whose zone a test may edit."""
    return Path(shutil.copytree(EXAMPLE, tmp_path / "dns_udp"))


def port(daemon: Daemon) -> int:
    return int(daemon.wait_for(r"Listening on dns at udp://.*:(\d+)$")[1])


def ask(
    daemon: Daemon, name: str, kind: str = "A", opcode: dns.opcode.Opcode = dns.opcode.QUERY
) -> dns.message.Message:
    query = dns.message.make_query(name, kind)
    query.set_opcode(opcode)
    # It raises if the response is malformed, or another query's.
    return dns.query.udp(query, "127.0.0.1", TIMEOUT, port(daemon))


def test_queries_are_answered_from_the_zone(folder: Path) -> None:
    with Daemon(folder, *ARGUMENTS) as daemon:
        daemon.ready(2)
        found = ask(daemon, "www.example.")
        assert [str(record) for record in found.answer] == [
            "www.example. 300 IN CNAME mail.example.",
            "mail.example. 300 IN A 192.0.2.2",
        ]
        assert found.flags & dns.flags.AA
        assert str(ask(daemon, "WWW.Example.", "AAAA").answer[1][0]) == "2001:db8::2"
        absent, empty = ask(daemon, "absent.example."), ask(daemon, "ns.example.", "AAAA")
        assert (absent.rcode(), empty.rcode()) == (dns.rcode.NXDOMAIN, dns.rcode.NOERROR)
        assert absent.answer == empty.answer == []
        assert absent.authority == empty.authority != []
        assert ask(daemon, "example.org.").rcode() == dns.rcode.REFUSED
        assert ask(daemon, "example.", opcode=dns.opcode.STATUS).rcode() == dns.rcode.NOTIMP
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(TIMEOUT)
            client.connect(("127.0.0.1", port(daemon)))
            client.send(b"no question")
            client.send(found.to_wire())  # an answer
            client.send(query := dns.message.make_query("ns.example.", "A").to_wire())
            assert client.recv(1232)[:2] == query[:2]  # the only datagram that is answered
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.output


def test_three_reloads_lose_no_query(folder: Path) -> None:
    with Daemon(folder, *ARGUMENTS) as daemon:
        daemon.ready(2)

        def client(turns: Iterator[int]) -> None:
            for _ in turns:
                # It sends once, and waits longer than a resolver does.
                assert str(ask(daemon, "mail.example.").answer[0]).endswith(" A 192.0.2.2")

        work_through_three_reloads(daemon, client, client, client)
        zone = folder / "example.zone"
        zone.write_text(zone.read_text().replace("192.0.2.1", "192.0.2.9"))
        reload(daemon)
        assert str(ask(daemon, "ns.example.").answer[0]) == "ns.example. 300 IN A 192.0.2.9"
        assert daemon.stop() == 0


def test_a_long_response_is_truncated_so_that_the_client_retries_by_tcp(folder: Path) -> None:
    with (folder / "example.zone").open("a") as zone:
        zone.writelines(f"many A 192.0.2.{number}\n" for number in range(1, 60))
    with Daemon(folder, *ARGUMENTS) as daemon:
        daemon.ready(2)
        assert ask(daemon, "many.example.").flags & dns.flags.TC
        assert len(ask_with_edns(daemon, "many.example.").answer[0]) == 59
        assert daemon.stop() == 0


def ask_with_edns(daemon: Daemon, name: str) -> dns.message.Message:
    query = dns.message.make_query(name, "A", use_edns=0, payload=1232)
    return dns.query.udp(query, "127.0.0.1", TIMEOUT, port(daemon))
