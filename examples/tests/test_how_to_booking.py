"""booking: two clients never get one seat, and a repeated request books once."""

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from examples.tests.asking import Answer, ask
from testkit.processes import Daemon

LISTEN = {"http": "tcp://127.0.0.1:0"}


def test_a_seat_is_booked_once_and_a_retry_is_not_a_conflict(
    serve: Callable[..., Daemon], database: str
) -> None:
    daemon = serve("how_to", "booking:Container", LISTEN, DATABASE_URL=database)

    def book(seat: str, key: str = "") -> Answer:
        new = {"key": key or str(uuid.uuid4()), "seat": seat}
        return ask(daemon, "POST /concerts/1/bookings", new)

    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(book, ["A1"] * 8))
    assert sorted(answer.status for answer in answers) == [201] + [409] * 7
    assert {answer.detail for answer in answers if answer.status == 409} == {"Seat A1 is taken"}
    key = str(uuid.uuid4())
    assert [book("A2", key).status for _ in range(3)] == [201, 200, 200]
    # The row that was stored before the concert turned out to be sold out is rolled back.
    for _ in range(2):
        assert book("A3").detail == "The concert is sold out"
    new = {"key": str(uuid.uuid4()), "seat": "A1"}
    assert ask(daemon, "POST /concerts/7/bookings", new).status == 404
