"""asgi: every request is answered, and the application receives the events of its lifespan."""

import http.client
from collections.abc import Callable, Iterator
from contextlib import closing

from examples.tests.json_client import JSONClient
from testkit.processes import Daemon
from testkit.waiting import TIMEOUT, until
from testkit.reloads import work_through_three_reloads


def test_three_reloads_lose_no_request(serve: Callable[..., Daemon]) -> None:
    daemon = serve("asgi", "launcher:Container", {"http": "tcp://127.0.0.1:0"})

    def stay(turns: Iterator[int]) -> None:
        with closing(JSONClient(daemon)) as http:
            for number in turns:
                answer = {"message": "Hello, World!", "path": f"/{number}"}
                assert http.ask("GET", f"/{number}") == (200, answer)

    def come_and_go(turns: Iterator[int]) -> None:
        for number in turns:
            assert daemon.get(f"/{number}")[0] == 200

    work_through_three_reloads(daemon, stay, stay, come_and_go)
    with closing(
        http.client.HTTPConnection("127.0.0.1", daemon.port(), timeout=TIMEOUT)
    ) as connection:
        connection.request("GET", "/")
        assert "GMT" in str(connection.getresponse().headers["Date"])
    assert daemon.stop() == 0
    # Two workers and six that they replaced; two that exit at once may share a line.
    until(
        lambda: daemon.output.count("The application has ended") == 8,
        "an application has not ended",
    )
