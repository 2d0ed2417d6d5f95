"""engines: every visit that was answered is counted once; Redis may go away and come back."""

import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from asking import Asking
from testkit.processes import Daemon
from testkit.waiting import TIMEOUT, until
from testkit.reloads import work_through_three_reloads

REDIS = shutil.which("redis-server")


@contextmanager
def redis(path: Path) -> Iterator[None]:
    """Run a Redis server at a unix socket, with nothing on disk."""
    command = [str(REDIS), "--port", "0", "--unixsocket", str(path), "--save", ""]
    with subprocess.Popen(command, cwd=path.parent, stdout=subprocess.DEVNULL) as server:
        try:
            until(lambda: answers(path), "no Redis")
            yield
        finally:
            server.terminate()
            server.wait(TIMEOUT)


def answers(path: Path) -> bool:
    """Tell whether a server accepts connections; its socket is there before it does."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


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
        with closing(Asking(daemon)) as http:
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
