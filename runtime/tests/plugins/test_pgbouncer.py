"""Both pools behind a real PgBouncer in transaction mode.

There a client keeps a server connection only for the length of a transaction, so that it must leave
nothing on it: no prepared statement, no setting.
"""

import asyncio
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager
from pathlib import Path
from time import monotonic
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

import psycopg2
import pytest

from api_hour.exceptions import DatabaseUnavailable, QueryTimeout
from api_hour.plugins import aiopg, asyncpg
from api_hour.plugins.embedded import PostgreSQL, host
from runtime.tests.plugins.conftest import AT_ONCE, END_OTHERS
from testkit.ports import accepts, free_port
from testkit.processes import Program
from testkit.waiting import until, until_async

SHARED = 3  # connections of PgBouncer to the server
CLIENTS = 12  # connections to PgBouncer
STATEMENTS = 240
ROLE_TIMEOUT = 3.0  # seconds
PLENTY = 60.0  # seconds; where a test is not about the timeout
PATIENT: dict[str, Any] = {"acquire_timeout": PLENTY, "connect_timeout": PLENTY}
GUARDS = "statement_timeout, idle_in_transaction_session_timeout, client_connection_check_interval"
BOUNCER = """[databases]
postgres = host={host} port=5432
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = users.txt
pool_mode = transaction
default_pool_size = {shared}
server_login_retry = 0.2
query_wait_timeout = {wait}
ignore_startup_parameters = {ignored}
"""
Start = Callable[..., str]


class Driver(Protocol):
    """What the tests do with a pool, whatever placeholders its driver has."""

    def pool(self, url: str, **options: Any) -> AbstractAsyncContextManager[Any]: ...
    async def add(self, pool: Any, number: int) -> tuple[int, int]: ...
    async def run(self, pool: Any, sql: str) -> None: ...
    async def transact(self, pool: Any, pause: float) -> set[int]: ...


class Aiopg:
    """The aiopg pool."""

    def pool(self, url: str, **options: Any) -> AbstractAsyncContextManager[Any]:
        options.pop("statement_cache_size", None)  # psycopg2 prepares nothing
        return aiopg.create_pool(url, **options)

    async def add(self, pool: aiopg.Pool, number: int) -> tuple[int, int]:
        async with pool.cursor() as cursor:
            await cursor.execute("SELECT %s + 1, pg_backend_pid()", (number,))
            row: tuple[int, int] = await cursor.fetchone()
            return row

    async def run(self, pool: aiopg.Pool, sql: str) -> None:
        async with pool.cursor() as cursor:
            await cursor.execute(sql)

    async def transact(self, pool: aiopg.Pool, pause: float) -> set[int]:
        async with pool.cursor() as cursor, cursor.begin():
            return {await self._backend(cursor, pause) for _ in range(3)}

    async def _backend(self, cursor: Any, pause: float) -> int:
        await cursor.execute("SELECT pg_backend_pid(), pg_sleep(%s)", (pause,))
        return int((await cursor.fetchone())[0])


class Asyncpg:
    """The asyncpg pool."""

    def pool(self, url: str, **options: Any) -> AbstractAsyncContextManager[Any]:
        return asyncpg.create_pool(url, **options)

    async def add(self, pool: asyncpg.Pool, number: int) -> tuple[int, int]:
        async with pool.connection() as connection:
            row = await connection.fetchrow("SELECT $1::int + 1, pg_backend_pid()", number)
            return int(row[0]), int(row[1])

    async def run(self, pool: asyncpg.Pool, sql: str) -> None:
        async with pool.connection() as connection:
            await connection.fetch(sql)

    async def transact(self, pool: asyncpg.Pool, pause: float) -> set[int]:
        sql = "SELECT pg_backend_pid(), pg_sleep($1)"
        async with pool.connection() as connection, connection.transaction():
            return {await connection.fetchval(sql, pause) for _ in range(3)}


@pytest.fixture(params=[Aiopg(), Asyncpg()], ids=["aiopg", "asyncpg"])
def driver(request: pytest.FixtureRequest) -> Driver:
    """Return one driver after the other."""
    driver: Driver = request.param
    return driver


@pytest.fixture
def start(server: PostgreSQL) -> Iterator[Start]:
    """Yield a function that starts PgBouncer and returns its URL.

    Its arguments: the start-up parameters to ignore, and how many seconds a client may wait for a
    server connection.
    """
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("pgbouncer is not installed")
    with tempfile.TemporaryDirectory() as name, ExitStack() as running:
        folder = Path(name)

        def start(*, ignored: str = "", wait: int = 60) -> str:
            port = _configure(folder, server, ignored=ignored, wait=wait)
            who = host.identity(folder)  # PgBouncer, too, refuses to run as root
            for path in (folder, *folder.iterdir()):
                os.chown(path, who.uid, -1)
            bouncer = Program(program, "pgbouncer.ini", folder=folder, before_exec=who.enter)
            running.enter_context(bouncer)
            until(lambda: accepts(port), "PgBouncer does not listen")
            return f"postgresql://pooled:secret@127.0.0.1:{port}/postgres"

        yield start
    _ask(server, END_OTHERS)


def _configure(folder: Path, server: PostgreSQL, **settings: object) -> int:
    port = free_port()
    host = parse_qs(urlsplit(server.url).query)["host"][0]
    text = BOUNCER.format(host=host, port=port, shared=SHARED, **settings)
    (folder / "pgbouncer.ini").write_text(text)
    (folder / "users.txt").write_text('"pooled" "secret"\n')
    return port


def _ask(server: PostgreSQL, sql: str) -> None:
    connection = psycopg2.connect(server.url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(sql)
    connection.close()


@contextmanager
def _stopped(server: PostgreSQL) -> Iterator[None]:
    server.stop()
    try:
        yield
    finally:
        server.start()


@pytest.mark.parametrize("ignored", ["", f"options, {GUARDS}"], ids=["refusing", "ignoring"])
async def test_many_clients_share_few_connections(
    driver: Driver, start: Start, ignored: str, caplog: pytest.LogCaptureFixture
) -> None:
    url = start(ignored=ignored)
    cache = {"statement_cache_size": 0} if ignored else {}
    async with driver.pool(url, maxsize=CLIENTS, **PATIENT, **cache) as pool:
        rows = await asyncio.gather(*(driver.add(pool, number) for number in range(STATEMENTS)))
    assert [number for number, _ in rows] == list(range(1, STATEMENTS + 1))
    assert len({backend for _, backend in rows}) <= SHARED
    warnings = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == (0 if ignored else 1)
    assert all("set the timeouts with ALTER ROLE instead" in warning for warning in warnings)


async def test_a_transaction_stays_on_one_connection(driver: Driver, start: Start) -> None:
    async with driver.pool(start(), maxsize=CLIENTS, **PATIENT) as pool:
        backends = await asyncio.gather(*(driver.transact(pool, 0.05) for _ in range(CLIENTS)))
    assert {len(pids) for pids in backends} == {1}
    assert 1 < len(set.union(*backends)) <= SHARED


async def test_the_timeout_set_on_the_role_ends_a_statement(driver: Driver, start: Start) -> None:
    async with driver.pool(start(), statement_timeout=PLENTY) as pool:
        started = monotonic()
        with pytest.raises(QueryTimeout, match="statement timeout"):
            await driver.run(pool, "SELECT pg_sleep(9)")
        assert ROLE_TIMEOUT <= monotonic() - started < ROLE_TIMEOUT + AT_ONCE
        assert (await driver.add(pool, 1))[0] == 2


async def test_an_outage_behind_pgbouncer_is_database_unavailable(
    driver: Driver, start: Start, server: PostgreSQL
) -> None:
    async with driver.pool(start(wait=4)) as pool:
        assert (await driver.add(pool, 1))[0] == 2
        with _stopped(server):
            started = monotonic()
            with pytest.raises(DatabaseUnavailable):
                await driver.add(pool, 1)
            assert monotonic() - started < PLENTY
        async with asyncio.timeout(PLENTY):
            while not await _answers(driver, pool):
                await asyncio.sleep(0.05)


async def test_a_busy_pgbouncer_costs_no_other_connection(driver: Driver, start: Start) -> None:
    url = start(wait=1)
    async with driver.pool(url, minsize=SHARED + 3, maxsize=CLIENTS, **PATIENT) as pool:
        held = [asyncio.create_task(driver.transact(pool, 0.7)) for _ in range(SHARED)]
        await until_async(lambda: pool.freesize == 3)
        with pytest.raises(DatabaseUnavailable, match="query_wait_timeout"):
            await driver.add(pool, 1)
        assert pool.freesize == 2
        await asyncio.gather(*held)


async def _answers(driver: Driver, pool: Any) -> bool:
    try:
        return (await driver.add(pool, 1))[0] == 2
    except DatabaseUnavailable:
        return False
