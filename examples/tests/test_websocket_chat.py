"""websocket_chat: each person receives each message once, in one order, from whichever worker."""

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psycopg2
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from testkit.processes import Daemon
from testkit.waiting import TIMEOUT, until
from testkit.reloads import WORKERS, work_through_three_reloads


class Person:
    """A client that repeats a message until it arrives.

    After close code 1012 it reconnects and asks for what follows the last message.
    """

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.received: list[dict[str, Any]] = []
        self.restarts = 0

    def send_all(self, turns: Iterator[int]) -> None:
        said = self.next(turns)
        while said:
            with self.connect() as socket:
                try:
                    while said:
                        socket.send(json.dumps(said))
                        self.receive(socket, said["key"])
                        said = self.next(turns)
                except ConnectionClosed as error:
                    if not error.rcvd or error.rcvd.code != 1012:
                        raise
                    self.restarts += 1

    def next(self, turns: Iterator[int]) -> dict[str, str]:
        number = next(turns, None)
        return {"key": str(uuid.uuid4()), "text": str(number)} if number else {}

    def connect(self) -> ClientConnection:
        last = self.received[-1]["id"] if self.received else 0
        return connect(f"ws://127.0.0.1:{self.daemon.port()}/chat/{last}")

    def receive(self, socket: ClientConnection, key: str) -> None:
        """Receive until the message ``key`` arrives."""
        while not self.received or self.received[-1]["key"] != key:
            self.received.append(json.loads(socket.recv(TIMEOUT)))


def start(serve: Callable[..., Daemon], database: str) -> Daemon:
    listen = {"http": "tcp://127.0.0.1:0"}
    environ = {"DATABASE_URL": database, "GUNICORN_CMD_ARGS": "--drain-idle=0.5"}
    return serve("websocket_chat", "chat:Container", listen, **environ)


def test_three_reloads_lose_and_duplicate_no_message(
    serve: Callable[..., Daemon], database: str
) -> None:
    daemon = start(serve, database)
    people = [Person(daemon) for _ in range(3)]
    turns = work_through_three_reloads(daemon, *(person.send_all for person in people))
    newcomer = Person(daemon)
    with newcomer.connect() as socket:
        while len(newcomer.received) < turns:
            newcomer.received.append(json.loads(socket.recv(TIMEOUT)))
    assert sorted(int(message["text"]) for message in newcomer.received) == list(
        range(1, turns + 1)
    )
    for person in people:
        assert person.restarts >= 3  # it may meet the second old worker, too
        assert person.received == newcomer.received[: len(person.received)]
    assert daemon.stop() == 0


def test_an_invalid_message_is_refused(serve: Callable[..., Daemon], database: str) -> None:
    daemon = start(serve, database)
    with connect(f"ws://127.0.0.1:{daemon.port()}/chat/{10**9}") as socket:
        socket.send('{"text": "without a key"}')
        with pytest.raises(ConnectionClosed) as ended:
            socket.recv(TIMEOUT)
        assert ended.value.rcvd is not None
        assert ended.value.rcvd.code == 1007


def test_a_message_sent_while_no_worker_listens_arrives(
    serve: Callable[..., Daemon], database: str
) -> None:
    daemon = start(serve, database)
    person = Person(daemon)
    with person.connect() as socket:
        cut_listeners(database)
        for number in range(3):
            key = str(uuid.uuid4())
            socket.send(json.dumps({"key": key, "text": f"after the cut {number}"}))
            person.receive(socket, key)


def cut_listeners(database: str) -> None:
    """Terminate the backends whose last statement was LISTEN, once every worker has one."""
    with closing(psycopg2.connect(database)) as connection, connection.cursor() as cursor:
        connection.autocommit = True  # a transaction would see one snapshot of the activity

        def listeners() -> list[int]:
            cursor.execute("SELECT pid FROM pg_stat_activity WHERE query ILIKE 'listen%'")
            return [pid for (pid,) in cursor.fetchall()]

        until(lambda: len(listeners()) == WORKERS, "not every worker listens")
        cursor.execute("SELECT pg_terminate_backend(pid, 10000) FROM unnest(%s) pid", [listeners()])
