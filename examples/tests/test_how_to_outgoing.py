"""outgoing: what the other service answers, or does not, becomes the right answer."""

import http.server
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from examples.tests.asking import ask
from testkit.processes import Daemon

LISTEN = {"http": "tcp://127.0.0.1:0"}


class Service(http.server.ThreadingHTTPServer):
    """The other service: it does what a test has put into ``steps``, one for each request."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.steps: list[int | None] = []  # statuses; None closes the connection
        self.asked = 0
        self.released = threading.Event()


class Handler(http.server.BaseHTTPRequestHandler):
    server: Service

    def do_GET(self) -> None:
        self.server.asked += 1
        status = self.server.steps.pop(0) if self.server.steps else None
        if status == 0:
            self.server.released.wait()
        elif status is not None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b'{"name": "Ulm"}')

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


def test_each_answer_of_the_service_has_its_own(
    serve: Callable[..., Daemon], service: Service
) -> None:
    url = f"http://127.0.0.1:{service.server_port}"
    daemon = serve("how_to", "outgoing:Container", LISTEN, workers=1, PLACES_URL=url)

    def status(*steps: int | None) -> tuple[int, int]:
        """Return the daemon's status, and how often it has asked the service."""
        service.steps, service.asked = list(steps), 0
        return ask(daemon, "GET /postcodes/89073").status, service.asked

    assert ask(daemon, "GET /postcodes/..%2Fadmin").status == 404
    assert service.asked == 0
    assert status(200) == (200, 1)
    assert status(404) == (404, 1)
    assert status(None, 503, 200) == (200, 3)
    assert status(502, 429, 500) == (503, 3)
    assert status(403) == (500, 1)  # our request is wrong, so no other attempt is better
    slow, asked = status(0, 0, 0)
    assert slow == 503
    assert asked >= 2
    away = ask(daemon, "GET /postcodes/89073")
    assert away.headers["Retry-After"] == "1"
    assert away.detail == "A service that is needed is unavailable"
