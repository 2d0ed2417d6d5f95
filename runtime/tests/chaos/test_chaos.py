"""The chaos suite in its short form, and proof that its clients see every kind of loss."""

import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from enum import Enum
from pathlib import Path

import pytest

from runtime.tests.chaos.play import Scenario, play
from runtime.tests.chaos.scenarios import SCENARIOS
from runtime.tests.chaos.stage import SHORT
from testkit.load import Kind, Load, Outcome, Profile
from testkit.waiting import TIMEOUT

HEAD = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
LAST_HEAD = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close\r\n\r\n"
ONE = Profile(
    keepalive=1, fresh=0, rate=4, timeout=30.0, kinds=(Kind("quick", size=100),), requests=1
)
TWO = replace(ONE, requests=2)  # a quarter of a second apart


@pytest.mark.parametrize(
    "scenario",
    [
        pytest.param(one, id=one.name, marks=[pytest.mark.slow] if one.slow else [])
        for one in SCENARIOS
    ],
)
def test_a_fault_costs_no_more_than_it_may(scenario: Scenario, tmp_path: Path) -> None:
    if missing := scenario.missing():
        pytest.skip(f"the runtime has no {', '.join(missing)} yet")
    result = play(scenario, tmp_path, SHORT)
    print(*result.notes, sep="\n")
    if result.problem:
        pytest.fail(f"{result.problem}\n{result.details}", pytrace=False)


class Then(Enum):
    """Say what a server does with the connection after its answer."""

    KEEP = None
    FIN = struct.pack("ii", 0, 0)  # SO_LINGER
    RST = struct.pack("ii", 1, 0)


@contextmanager
def server(*script: tuple[str, Then]) -> Iterator[tuple[int, list[int]]]:
    """Answer by ``script``; yield the port, and how many requests came on each connection."""
    counts: list[int] = []
    lines = iter(script)

    def serve() -> None:
        with suppress(OSError):  # the listener was shut down
            while True:
                sock, _ = listener.accept()
                counts.append(0)
                with sock, suppress(ConnectionError):
                    while (request := sock.recv(65536)) and answer(sock, request):
                        counts[-1] += 1
                    counts[-1] += bool(request)

    def answer(sock: socket.socket, request: bytes) -> bool:
        text, then = next(lines)
        ident = re.findall(r"id=([^&]+)", request.decode())[0]
        sock.sendall(text.format(body=ident.ljust(100, ".")).encode())
        if then.value:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, then.value)
        return then is Then.KEEP

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1], counts
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(TIMEOUT)


def load(port: int, profile: Profile, *, window: float = 60.0) -> Load:
    """Let one client ask until it has done; return its account."""
    load = Load("0", port, profile, window)
    load.start()
    load.wait()
    return load


@pytest.mark.parametrize(
    ("text", "then", "outcome"),
    [
        (HEAD + "{body}", Then.KEEP, Outcome.ANSWERED),
        (LAST_HEAD + "{body}", Then.FIN, Outcome.ANSWERED),
        (HEAD + 100 * "x", Then.KEEP, Outcome.WRONG),
        (HEAD.replace("200", "503") + "{body}", Then.KEEP, Outcome.WRONG),
        (HEAD + "half", Then.FIN, Outcome.TRUNCATED),
        (HEAD, Then.FIN, Outcome.TRUNCATED),
        ("HTTP/1.1 2", Then.FIN, Outcome.TRUNCATED),
        ("", Then.FIN, Outcome.UNREAD),
        ("", Then.RST, Outcome.RESET),
        ("", Then.KEEP, Outcome.LATE),
        (HEAD + "half", Then.KEEP, Outcome.LATE),
    ],
)
@pytest.mark.parametrize("fresh", [0, 1])
def test_a_client_tells_what_became_of_its_request(
    text: str, then: Then, outcome: Outcome, fresh: int
) -> None:
    timeout = 0.5 if outcome is Outcome.LATE else ONE.timeout
    with server((text, then)) as (port, _):
        account = load(port, replace(ONE, keepalive=1 - fresh, fresh=fresh, timeout=timeout))
    assert [one.outcome for one in account.records] == [outcome]


def test_a_client_is_refused_where_nobody_listens() -> None:
    with socket.socket() as sock:  # bound, so that nobody else takes the port
        sock.bind(("127.0.0.1", 0))
        account = load(sock.getsockname()[1], ONE)
    assert [one.outcome for one in account.records] == [Outcome.REFUSED]


@pytest.mark.parametrize(("window", "outcome"), [(60.0, Outcome.UNREAD), (0.0, Outcome.RACED)])
def test_a_close_is_a_race_only_after_a_whole_window_without_use(
    window: float, outcome: Outcome
) -> None:
    with server((HEAD + "{body}", Then.KEEP), ("", Then.FIN)) as (port, _):
        account = load(port, TWO, window=window)
    assert [one.outcome for one in account.records] == [Outcome.ANSWERED, outcome]


def test_a_close_without_notice_costs_no_request_but_is_written_down() -> None:
    with server((HEAD + "{body}", Then.FIN), (HEAD + "{body}", Then.KEEP)) as (port, counts):
        account = load(port, replace(TWO, rate=0.5))  # the FIN has time to come
    assert [one.outcome for one in account.records] == [Outcome.ANSWERED] * 2
    assert (counts, len(account.drops)) == ([1, 1], 1)


def test_a_client_obeys_connection_close() -> None:
    with server((LAST_HEAD + "{body}", Then.KEEP), (HEAD + "{body}", Then.KEEP)) as (port, counts):
        account = load(port, TWO)
    assert [one.outcome for one in account.records] == [Outcome.ANSWERED] * 2
    assert (counts, account.drops) == ([1, 1], [])
