"""http_and_ssh: every worker shows a typed line at once, and every line is acknowledged."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from examples.tests.json_client import JSONClient
from testkit.processes import Daemon
from testkit.waiting import TIMEOUT
from testkit.reloads import work_through_three_reloads

RESTART = "The service restarts: come again.\n"


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, str]:
    """Generate the keys of the daemon and of a user; return the daemon's environment."""
    for name in ("host_key", "user_key"):
        key = asyncssh.generate_private_key("ssh-ed25519")
        key.write_private_key(tmp_path / name)
        key.write_public_key(tmp_path / f"{name}.pub")
    paths = {"HOST_KEY": "host_key", "AUTHORIZED_KEYS": "user_key.pub"}
    return {variable: str(tmp_path / name) for variable, name in paths.items()}


def test_three_reloads_lose_no_line(
    serve: Callable[..., Daemon], database: str, keys: dict[str, str], tmp_path: Path
) -> None:
    listen = {"http": "tcp://127.0.0.1:0", "ssh": "tcp://127.0.0.1:0"}
    daemon = serve("http_and_ssh", "board:Container", listen, DATABASE_URL=database, **keys)
    kept: dict[int, str] = {}
    restarts = []

    def connect() -> Any:
        host, kind = "127.0.0.1", (tmp_path / "host_key.pub").read_text()
        known = asyncssh.import_known_hosts(f"[{host}]:{daemon.port('ssh')} {kind}")
        user = {"username": "someone", "client_keys": [str(tmp_path / "user_key")]}
        return asyncssh.connect(host, daemon.port("ssh"), known_hosts=known, config=None, **user)

    async def type_lines(turns: Iterator[int]) -> None:
        """Type lines; type one again if the session ends before its number arrives."""
        number = next(turns, 0)
        while number:
            async with connect() as connection, connection.create_process() as process:
                while number:
                    with suppress(BrokenPipeError):  # the session has ended, with a message to read
                        process.stdin.write(f"line {number}\n")
                    answer = await asyncio.wait_for(process.stdout.readline(), TIMEOUT)
                    if answer == RESTART:
                        restarts.append(number)
                        break
                    kept[int(answer)] = f"line {number}"
                    await asyncio.to_thread(read_back, int(answer))
                    number = next(turns, 0)

    def read_back(number: int) -> None:
        with closing(JSONClient(daemon)) as http:
            assert number in [line["id"] for line in http.ask("GET", "/")[1]]

    def client(turns: Iterator[int]) -> None:
        asyncio.run(type_lines(turns))

    work_through_three_reloads(daemon, client, client)
    assert len(restarts) >= 6  # two clients, three reloads
    with closing(JSONClient(daemon)) as http:
        lines = [{"id": number, "who": "someone", "line": kept[number]} for number in sorted(kept)]
        assert http.ask("GET", "/") == (200, lines)
    assert daemon.stop() == 0
