"""The chaos suite in its short form, and a proof that its clients see every kind of loss."""

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

from runtime.tests.chaos.harness import SHORT
from runtime.tests.chaos.runner import Scenario, run
from runtime.tests.chaos.scenarios import SCENARIOS
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
        pytest.param(scenario, id=scenario.name, marks=[pytest.mark.slow] if scenario.slow else [])
        for scenario in SCENARIOS
    ],
)
def test_a_fault_costs_no_more_than_its_allowance(scenario: Scenario, tmp_path: Path) -> None:
    result = run(scenario, tmp_path, SHORT)
    print(*result.notes, sep="\n")
    if result.problem:
        pytest.fail(f"{result.problem}\n{result.details}", pytrace=False)


class Then(Enum):
    """What a server does with the connection after its response."""

    KEEP = None
    FIN = struct.pack("ii", 0, 0)  # SO_LINGER
    RST = struct.pack("ii", 1, 0)


@contextmanager
def server(*script: tuple[str, Then]) -> Iterator[tuple[int, list[int]]]:
    """Serve by ``script``; yield the port, and the requests received on each connection."""
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
    """Run the clients to their end; return their account."""
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
def test_a_client_records_the_outcome_of_its_request(
    text: str, then: Then, outcome: Outcome, fresh: int
) -> None:
    timeout = 0.5 if outcome is Outcome.LATE else ONE.timeout
    with server((text, then)) as (port, _):
        account = load(port, replace(ONE, keepalive=1 - fresh, fresh=fresh, timeout=timeout))
    assert [record.outcome for record in account.records] == [outcome]


def test_a_client_is_refused_if_no_server_listens() -> None:
    with socket.socket() as sock:  # bound, so that no other process takes the port
        sock.bind(("127.0.0.1", 0))
        account = load(sock.getsockname()[1], ONE)
    assert [record.outcome for record in account.records] == [Outcome.REFUSED]


@pytest.mark.parametrize(("window", "outcome"), [(60.0, Outcome.UNREAD), (0.0, Outcome.RACED)])
def test_a_close_counts_as_a_race_only_after_a_whole_idle_window(
    window: float, outcome: Outcome
) -> None:
    with server((HEAD + "{body}", Then.KEEP), ("", Then.FIN)) as (port, _):
        account = load(port, TWO, window=window)
    assert [record.outcome for record in account.records] == [Outcome.ANSWERED, outcome]


def test_a_silent_close_costs_no_request_but_is_recorded() -> None:
    with server((HEAD + "{body}", Then.FIN), (HEAD + "{body}", Then.KEEP)) as (port, counts):
        account = load(port, replace(TWO, rate=0.5))  # the FIN arrives meanwhile
    assert [record.outcome for record in account.records] == [Outcome.ANSWERED] * 2
    assert (counts, len(account.drops)) == ([1, 1], 1)


def test_a_client_obeys_connection_close() -> None:
    with server((LAST_HEAD + "{body}", Then.KEEP), (HEAD + "{body}", Then.KEEP)) as (port, counts):
        account = load(port, TWO)
    assert [record.outcome for record in account.records] == [Outcome.ANSWERED] * 2
    assert (counts, account.drops) == ([1, 1], [])
