"""engines: every answered visit is counted once, and Redis may fail and return."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from examples.tests.json_client import JSONClient
from testkit.ports import accepts
from testkit.processes import Daemon, Program
from testkit.waiting import until
from testkit.reloads import work_through_three_reloads

REDIS = shutil.which("redis-server")


@contextmanager
def redis(path: Path) -> Iterator[None]:
    """Run a Redis server on a unix socket, without a file on disk."""
    options = ("--port", "0", "--unixsocket", path, "--save", "")
    with Program(str(REDIS), *options, folder=path.parent) as server:
        until(lambda: accepts(path), "Redis does not listen")
        yield
        server.stop()


@pytest.mark.skipif(REDIS is None, reason="redis-server is not installed")
def test_three_reloads_lose_no_visit_and_an_outage_is_answered_503(
    serve: Callable[..., Daemon], tmp_path: Path
) -> None:
    path = tmp_path / "redis.sock"
    daemon = serve(
        "engines", "visits:Container", {"http": "tcp://127.0.0.1:0"}, REDIS_URL=f"unix://{path}"
    )
    answers = []

    def client(turns: Iterator[int]) -> None:
        with closing(JSONClient(daemon)) as http:
            for _ in turns:
                status, answer = http.ask("POST", "/visits/home")
                assert status == 200, answer
                answers.append(answer["visits"])

    assert daemon.get()[0] == 503
    with redis(path):
        assert daemon.get() == (200, {})
        turns = work_through_three_reloads(daemon, client, client, client)
        assert sorted(answers) == list(range(1, turns + 1))
    assert daemon.get()[0] == 503
    path.unlink(missing_ok=True)
    with redis(path):
        assert daemon.get() == (200, {})
    assert daemon.stop() == 0
