"""tcp_lines: each line is answered, in order, and every connection ends with bye."""

import socket
import time
from collections.abc import Callable, Iterator

import pytest

from testkit.processes import Daemon
from testkit.waiting import TIMEOUT
from testkit.reloads import work_through_three_reloads

Serve = Callable[..., Daemon]
WINDOW = 0.5  # seconds of a drain during which lines are still answered
FLAVOURS = pytest.mark.parametrize("spec", ["streams:Container", "protocols:Container"])


def start(serve: Serve, spec: str) -> Daemon:
    return serve("tcp_lines", spec, {"lines": "tcp://127.0.0.1:0"})


def connect(daemon: Daemon) -> socket.socket:
    return socket.create_connection(("127.0.0.1", daemon.port("lines")), TIMEOUT)


@FLAVOURS
def test_lines_are_answered_in_order_and_a_client_that_reads_nothing_is_not_read(
    serve: Serve, spec: str
) -> None:
    daemon = start(serve, spec)
    with connect(daemon) as client:
        client.sendall(b"one\ntwo\nthr")
        client.sendall(b"ee\n")
        client.shutdown(socket.SHUT_WR)
        assert client.makefile("rb").read() == b"ONE\nTWO\nTHREE\nbye\n"
    with connect(daemon) as client:
        client.settimeout(0.5)
        with pytest.raises(TimeoutError):
            client.sendall(b"unread\n" * 10_000_000)


def is_answered(daemon: Daemon, number: int) -> bool:
    """Tell whether a line was answered; only a slow client may receive bye, and retry."""
    began = time.monotonic()
    with connect(daemon) as client:
        client.sendall(b"line %d\n" % number)
        answer = client.makefile("rb").readline()
    slow = time.monotonic() - began > WINDOW
    assert answer == b"LINE %d\n" % number or (slow and answer == b"bye\n")
    return answer != b"bye\n"


@FLAVOURS
def test_three_reloads_lose_no_line(serve: Serve, spec: str) -> None:
    daemon = start(serve, spec)
    byes = []

    def come_and_go(turns: Iterator[int]) -> None:
        for number in turns:
            while not is_answered(daemon, number):
                pass

    def stay(turns: Iterator[int]) -> None:
        """Keep the connection until bye, which says that the line was not processed."""
        number = next(turns)
        while number:
            with connect(daemon) as client, client.makefile("rwb") as stream:
                answer = b""
                while number and answer != b"bye\n":
                    stream.write(b"line %d\n" % number)
                    stream.flush()
                    answer = stream.readline()
                    if answer == b"LINE %d\n" % number:
                        number = next(turns, 0)
                if number:
                    assert (answer, stream.read()) == (b"bye\n", b"")
                    byes.append(number)

    work_through_three_reloads(daemon, come_and_go, come_and_go, stay, stay)
    assert (
        len(byes) >= 6
    )  # two clients that stay, three reloads; they may meet the second old worker, too
    assert daemon.stop() == 0
