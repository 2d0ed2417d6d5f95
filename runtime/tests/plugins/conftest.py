"""One real server for the database tests, a door in front of it, and both event loops."""

import asyncio
import gc
import inspect
from collections.abc import Callable, Iterator
from typing import Any, cast

import psycopg2
import pytest
import uvloop
from psycopg2.extensions import parse_dsn

from api_hour.plugins import aiopg, asyncpg, embedded

Ask = Callable[..., Any]
LoopFactory = Callable[[], asyncio.AbstractEventLoop]

LOOPS: dict[str, LoopFactory] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
LIMIT = 120.0  # seconds for a test of a coroutine
AT_ONCE = 10.0  # seconds; a busy machine is slow now and then
MOSTLY = 0.2  # seconds, in the median
REFUSAL = "08P01", "unsupported startup parameter: options"
END_OTHERS = """SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"""
GOODBYE = "57P01", "terminating connection due to administrator command"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test that is a coroutine on both loops."""
    if inspect.iscoroutinefunction(metafunc.function):
        metafunc.fixturenames.append("loop_factory")
        metafunc.parametrize("loop_factory", LOOPS.values(), ids=LOOPS)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine to its end; fail when the loop heard of an error that nobody took."""
    test = pyfuncitem.obj
    if not inspect.iscoroutinefunction(test):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(test).parameters}
    complaints: list[dict[str, Any]] = []
    loop_factory = cast(LoopFactory, pyfuncitem.callspec.params["loop_factory"])
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.get_loop().set_exception_handler(lambda _, context: complaints.append(context))
        runner.run(asyncio.wait_for(test(**arguments), LIMIT))
        gc.collect()
    assert complaints == []
    return True


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[embedded.PostgreSQL]:
    """Return a server of our own, which a test may stop; it starts it again."""
    with embedded.postgresql(tmp_path_factory.mktemp("postgresql"), own=True) as server:
        yield server


@pytest.fixture
def url(server: embedded.PostgreSQL) -> Iterator[str]:
    """Return the server's URL: a unix socket; no backend outlives the test."""
    yield server.url
    connection = psycopg2.connect(server.url)
    with connection.cursor() as cursor:
        cursor.execute(END_OTHERS)  # cancelled statements run on for a while
    connection.close()


@pytest.fixture
def ask(url: str) -> Iterator[Ask]:
    """Return a function that asks the server by a connection of its own, blocking the loop."""
    connection = psycopg2.connect(url)
    connection.autocommit = True

    def ask(sql: str, *values: object) -> Any:
        with connection.cursor() as cursor:
            cursor.execute(sql, values)
            return cursor.fetchone()[0]

    yield ask
    connection.close()


async def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Return as soon as ``condition`` holds."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def busy(ask: Ask, pid: int) -> bool:
    """Say whether a backend is at work on a statement."""
    states = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND state = 'active'"
    return bool(ask(states, pid))


def kill(ask: Ask, pid: int) -> None:
    """End a backend; return when it has ended."""
    assert ask("SELECT pg_terminate_backend(%s, 5000)", pid)


class Door:
    """A TCP address in front of the server, to be shut, or to fall silent, or to be choosy."""

    def __init__(self, url: str) -> None:
        self._address = parse_dsn(url)
        self._listener: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.port = 0
        self.silent = False  # take what comes and answer nothing
        self.swallowed = 0  # pieces of data that got no answer
        self.choosy = False  # refuse start-up parameters, as PgBouncer does

    @property
    def url(self) -> str:
        """Return the URL of the server behind this door."""
        user, password = self._address["user"], self._address["password"]
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/postgres"

    async def __aenter__(self) -> "Door":
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.shut()

    async def open(self) -> None:
        """Accept connections, always on the same port."""
        self._listener = await asyncio.start_server(self._visit, "127.0.0.1", self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        """Cut all connections, and refuse new ones."""
        if self._listener is not None:
            self._listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.close()
        closed = (writer.wait_closed() for writer in self._writers)
        await asyncio.gather(*closed, return_exceptions=True)
        self._writers, self._tasks = [], []

    def say_goodbye(self) -> None:
        """Say what a server says before it ends a connection, and do not end it."""
        for writer in self._writers[::2]:  # the sides of the guests
            writer.write(_fatal(*GOODBYE))

    async def _visit(self, guest: asyncio.StreamReader, door: asyncio.StreamWriter) -> None:
        path = f"{self._address['host']}/.s.PGSQL.{self._address['port']}"
        server, way_in = await asyncio.open_unix_connection(path)
        self._writers += [door, way_in]
        for source, target in ((guest, way_in), (server, door)):
            self._tasks.append(asyncio.create_task(self._carry(source, target, door)))

    async def _carry(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, door: asyncio.StreamWriter
    ) -> None:
        while data := await source.read(65536):
            if self.choosy and b"statement_timeout" in data:
                door.write(_fatal(*REFUSAL))
                break
            if self.silent:
                self.swallowed += 1
            else:
                target.write(data)
        target.close()


def _fatal(code: str, message: str) -> bytes:
    """Return an ErrorResponse as in chapter 55.7 of PostgreSQL's documentation."""
    fields = f"SFATAL\0VFATAL\0C{code}\0M{message}\0\0".encode()
    return b"E" + (len(fields) + 4).to_bytes(4, "big") + fields


@pytest.fixture(autouse=True)
def patient_pings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a pool that opens wait for its connections, however busy the machine is."""
    for plugin in (asyncpg, aiopg):
        monkeypatch.setattr(plugin, "PING_TIMEOUT", AT_ONCE)


@pytest.fixture
def door(url: str) -> Door:
    """Return a door that is not open yet."""
    return Door(url)
