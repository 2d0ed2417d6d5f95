"""The daemon with one worker, and a real PostgreSQL with the prescribed rows."""

import http.client
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from api_hour.plugins import embedded
from testkit.processes import Daemon
from testkit.waiting import TIMEOUT

PROJECT = Path(__file__).parent.parent


class Client:
    """A client of the daemon that opens a connection for each request."""

    def __init__(self, port: int) -> None:
        self.port = port

    def get(self, path: str) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Return status, headers and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
        with closing(connection):
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.headers, response.read()

    def json(self, path: str) -> Any:
        """Return the data of the answer; fail unless its status is 200."""
        status, _, body = self.get(path)
        assert status == 200, body
        return json.loads(body)


class Database:
    """A connection beside the daemon's; each statement is a transaction."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg2.connect(url)
        self._connection.autocommit = True

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Return the rows of a statement; empty if it returns none."""
        with self._connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def worlds(self) -> dict[int, int]:
        """Return the number of every row of world by its id."""
        return dict(self.rows("SELECT id, randomnumber FROM world"))

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


@pytest.fixture(scope="session")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a PostgreSQL; yield its URL."""
    with embedded.postgresql(tmp_path_factory.mktemp("postgresql"), own=True) as server:
        yield server.url


@pytest.fixture(scope="session")
def database(url: str) -> Iterator[Database]:
    """Yield a connection to the database, once it has the prescribed rows."""
    with closing(Database(url)) as database:
        database.rows((PROJECT / "schema.sql").read_text())
        yield database


@pytest.fixture(scope="session")
def client(url: str, database: Database) -> Iterator[Client]:
    """Run the daemon and yield a client of it."""
    arguments = ("techempower:Container", "--bind=127.0.0.1:0", "--workers=1")
    with Daemon(PROJECT, *arguments, variables={"DATABASE_URL": url}) as daemon:
        yield Client(daemon.ready().port())
        assert daemon.stop() == 0
