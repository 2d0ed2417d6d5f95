"""A real server for the tests of the pools, a proxy in front of it, and both event loops."""

import asyncio
import gc
import inspect
import os
import signal
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import psycopg2
import pytest
import uvloop
from psycopg2.extensions import parse_dsn

from api_hour.exceptions import DatabaseUnavailable
from api_hour.plugins import aiopg, asyncpg, embedded
from api_hour.plugins._postgresql import LATE
from testkit.postgresql import as_superuser
from testkit.waiting import until

Ask = Callable[..., Any]
LoopFactory = Callable[[], asyncio.AbstractEventLoop]

LOOPS: dict[str, LoopFactory] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
TEST_TIMEOUT = 120.0  # seconds for a test that is a coroutine
AT_ONCE = 10.0  # seconds at most, on a machine that is busy now and then
AT_ONCE_IN_MEDIAN = 0.2  # seconds
REFUSAL = "08P01", "unsupported startup parameter: options"
END_OTHERS = """SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"""
PROTOCOL_VIOLATION = "DO $$ BEGIN RAISE 'wrong' USING ERRCODE = '08P01'; END $$"
TOO_MUCH = [
    ("connect_timeout", "9" * 5000),
    ("keepalives", str(2**31)),
    ("keepalives_idle", "32768"),
    ("keepalives_interval", "99999"),
    ("keepalives_count", "128"),
    ("tcp_user_timeout", str(2**31)),
]
POOLED = """CREATE ROLE pooled LOGIN PASSWORD 'secret' ROLE api_hour;
ALTER ROLE pooled SET statement_timeout = '3s'"""
SHUTDOWN = "57P01", "terminating connection due to administrator command"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test that is a coroutine on both loops."""
    if inspect.iscoroutinefunction(metafunc.function):
        metafunc.fixturenames.append("loop_factory")
        metafunc.parametrize("loop_factory", LOOPS.values(), ids=LOOPS)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine to its end; fail if the loop's exception handler was called."""
    test = pyfuncitem.obj
    if not inspect.iscoroutinefunction(test):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(test).parameters}
    unhandled: list[dict[str, Any]] = []
    loop_factory = cast(LoopFactory, pyfuncitem.callspec.params["loop_factory"])
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.get_loop().set_exception_handler(lambda _, context: unhandled.append(context))
        runner.run(asyncio.wait_for(test(**arguments), TEST_TIMEOUT))
        gc.collect()
    assert unhandled == []
    return True


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[embedded.PostgreSQL]:
    """Yield a server of the tests' own; a test that stops it starts it again."""
    data = tmp_path_factory.mktemp("postgresql")
    as_superuser(data, POOLED)  # of PgBouncer's clients
    with embedded.postgresql(data, own=True) as server:
        yield server


@pytest.fixture
def url(server: embedded.PostgreSQL) -> Iterator[str]:
    """Yield the server's URL, a Unix socket; no backend outlives the test."""
    yield server.url
    connection = psycopg2.connect(server.url)
    with connection.cursor() as cursor:
        cursor.execute(END_OTHERS)  # abandoned statements would run on for a while
    connection.close()


@pytest.fixture
def ask(url: str) -> Iterator[Ask]:
    """Yield a function that asks the server on a connection of its own, blocking the loop."""
    connection = psycopg2.connect(url)
    connection.autocommit = True

    def ask(sql: str, *values: object) -> Any:
        with connection.cursor() as cursor:
            cursor.execute(sql, values)
            return cursor.fetchone()[0]

    yield ask
    connection.close()


@pytest.fixture
def read_only(server: embedded.PostgreSQL, ask: Ask) -> Iterator[Callable[[str], None]]:
    """Yield a function that makes the server a standby, as far as sessions can tell, or not."""
    settings = Path(f"/proc/{server.pid}/cwd", "postgresql.auto.conf").resolve()

    def switch(value: str) -> None:
        settings.write_text(f"default_transaction_read_only = {value}\n")
        os.kill(server.pid, signal.SIGHUP)
        until(lambda: ask("SHOW default_transaction_read_only") == value)

    yield switch
    switch("off")


def busy(ask: Ask, pid: int) -> bool:
    """Return whether a backend is running a statement."""
    states = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND state = 'active'"
    return bool(ask(states, pid))


def kill(ask: Ask, pid: int) -> None:
    """Terminate a backend; return when it has exited."""
    assert ask("SELECT pg_terminate_backend(%s, 5000)", pid)


async def block_loop(ping: Coroutine[Any, Any, None]) -> None:
    """Block the loop while a ping of 0.1 s waits for its answer, and for long enough after it."""
    task = asyncio.ensure_future(ping)
    await asyncio.sleep(0)  # it has been sent
    time.sleep(0.1 + LATE + 0.1)  # noqa: ASYNC251 - that is what is tried
    with suppress(DatabaseUnavailable):
        await task


class Proxy:
    """A TCP address in front of the server that can refuse, fall silent or act as a pooler."""

    def __init__(self, url: str) -> None:
        self._server = parse_dsn(url)
        self._listener: asyncio.Server | None = None
        self._clients: list[asyncio.StreamWriter] = []
        self._servers: list[asyncio.StreamWriter] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.port = 0
        self._epoch = 0  # connections of an earlier one are forgotten
        self.silent = False  # swallow whatever comes, in both directions
        self.silent_to_client = False  # swallow only what the server says
        self.swallowed = 0  # pieces of data that were not passed on
        self.refuses_guards = False  # as PgBouncer does

    @property
    def url(self) -> str:
        """The URL of the server behind this proxy."""
        user, password = self._server["user"], self._server["password"]
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/postgres"

    async def __aenter__(self) -> "Proxy":
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Accept connections, always on the same port."""
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Cut all connections, and refuse new ones."""
        if self._listener is not None:
            self._listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        writers = self._clients + self._servers
        for writer in writers:
            writer.close()
        closed = (writer.wait_closed() for writer in writers)
        await asyncio.gather(*closed, return_exceptions=True)
        self._clients, self._servers, self._tasks = [], [], []

    def forget(self) -> None:
        """Swallow whatever comes on the open connections, as a firewall that has lost its table."""
        self._epoch += 1

    def announce_shutdown(self) -> None:
        """Send clients what a server sends before it closes a connection, and do not close it."""
        for to_client in self._clients:
            to_client.write(_fatal(*SHUTDOWN))

    def _accept(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        self._clients.append(to_client)
        self._tasks.append(asyncio.create_task(self._forward(from_client, to_client)))

    async def _forward(
        self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter
    ) -> None:
        path = f"{self._server['host']}/.s.PGSQL.{self._server['port']}"
        from_server, to_server = await asyncio.open_unix_connection(path)
        self._servers.append(to_server)
        await asyncio.gather(
            self._copy(from_client, to_server, to_client),
            self._copy(from_server, to_client, to_client),
        )

    async def _copy(
        self,
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
        to_client: asyncio.StreamWriter,
    ) -> None:
        epoch = self._epoch
        while data := await source.read(65536):
            if self.refuses_guards and b"statement_timeout" in data:
                to_client.write(_fatal(*REFUSAL))
                break
            muted = self.silent_to_client and target is to_client
            if self.silent or muted or epoch < self._epoch:
                self.swallowed += 1
            else:
                target.write(data)
        target.close()


def _fatal(code: str, message: str) -> bytes:
    """Return an ErrorResponse, by chapter 55.7 of PostgreSQL's documentation."""
    fields = f"SFATAL\0VFATAL\0C{code}\0M{message}\0\0".encode()
    return b"E" + (len(fields) + 4).to_bytes(4, "big") + fields


@pytest.fixture(autouse=True)
def patient_pings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a pool that opens get its connections, however busy the machine is."""
    for plugin in (asyncpg, aiopg):
        monkeypatch.setattr(plugin, "PING_TIMEOUT", AT_ONCE)


@pytest.fixture
def proxy(url: str) -> Proxy:
    """Return a proxy that is not open yet."""
    return Proxy(url)
