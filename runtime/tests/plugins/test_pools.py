"""The face that the pools share, on a real server with each driver."""

import asyncio
import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from decimal import Decimal
from types import ModuleType
from typing import Any
from uuid import UUID

import asyncpg as asyncpg_driver
import psycopg2
import pytest

from api_hour.exceptions import DatabaseUnavailable, InvalidArgument, PoolExhausted, QueryTimeout
from api_hour.plugins import aiopg, asyncpg
from runtime.tests.plugins.conftest import Ask, Proxy, busy, kill
from testkit.waiting import until_async

PLUGINS = {"aiopg": aiopg, "asyncpg": asyncpg}
PID = "SELECT pg_backend_pid()"
TABLE = "CREATE TABLE things (id int UNIQUE DEFERRABLE, name text)"
UNIQUE_VIOLATION = psycopg2.errors.UniqueViolation, asyncpg_driver.UniqueViolationError
SYNTAX_ERROR = psycopg2.errors.SyntaxError, asyncpg_driver.PostgresSyntaxError
VALUES = [
    ("int8", 2**62),
    ("float8", 1.5),
    ("float8", math.inf),
    ("numeric", Decimal("12345678901234567890.10")),
    ("text", "Zoë 𝄞 % %s $1 \\ '"),
    ("bytea", b"\0\xff"),
    ("int4[]", [1, 2, None]),
    ("text[]", ["a", '"b", {c}', None]),
    ("timestamptz", datetime(2026, 1, 2, 3, 4, 5, 6, UTC)),
    ("uuid", UUID("12345678-1234-5678-1234-567812345678")),
    ("bool", False),
    ("text", None),
]
HAS_NUL = r"has a NUL character \(U\+0000\)"
REFUSED_TEXTS: list[tuple[str, Any, str]] = [
    ("text", "a\0b", HAS_NUL),
    ("text[]", ["a", "b\0"], HAS_NUL),
    ("jsonb", '{"a": "\\u0000"}', HAS_NUL),
    ("text", "\ud800", r"has '\\ud800', which utf-?8 cannot encode"),
    ("text[]", ["\udcff"], r"has '\\udcff', which utf-?8 cannot encode"),
]
SETTINGS = "transaction_isolation", "transaction_read_only", "transaction_deferrable"
SERIALIZABLE = {"isolation": "serializable", "readonly": True, "deferrable": True}
OPTIONS: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({}, ("read committed", "off", "off")),
    ({"isolation": "read committed"}, ("read committed", "off", "off")),
    ({"isolation": "repeatable read"}, ("repeatable read", "off", "off")),
    ({"readonly": True}, ("read committed", "on", "off")),
    (SERIALIZABLE, ("serializable", "on", "on")),
]


@pytest.fixture(params=list(PLUGINS.values()), ids=list(PLUGINS))
def plugin(request: pytest.FixtureRequest) -> ModuleType:
    """Return each plugin in turn."""
    return request.param  # type: ignore[no-any-return]


@asynccontextmanager
async def pool_with_table(plugin: ModuleType, url: str, **options: Any) -> AsyncIterator[Any]:
    """Yield a pool on a database that has the table ``things``."""
    async with plugin.create_pool(url, **options) as pool:
        await pool.execute("DROP TABLE IF EXISTS things")
        await pool.execute(TABLE)
        yield pool


def sql(executor: Any, statement: str) -> str:
    """Return a statement that is written with ``$1`` for the paramstyle of a pool."""
    if executor.paramstyle == "numeric_dollar":
        return statement
    return statement.replace("%", "%%").replace("$1", "%s").replace("$2", "%s")


async def insert(pool: Any, executor: Any, number: int, name: str = "") -> int:
    statement = sql(pool, "INSERT INTO things VALUES ($1, $2)")
    return int(await executor.execute(statement, number, name))


async def ids(pool: Any) -> list[int]:
    return [row[0] for row in await pool.fetch("SELECT id FROM things ORDER BY id")]


# Verbs.


async def test_each_verb_gives_what_it_says_also_in_a_transaction(
    plugin: ModuleType, url: str
) -> None:
    async with pool_with_table(plugin, url) as pool, pool.transaction() as transaction:
        for executor in (pool, transaction):
            numbers = sql(pool, "SELECT n, 'x' FROM generate_series(1, $1::int) n")
            assert [tuple(row) for row in await executor.fetch(numbers, 2)] == [(1, "x"), (2, "x")]
            number, letter = await executor.fetchrow(numbers, 2)
            assert (number, letter) == (1, "x")
            assert await executor.fetchval(numbers, 2) == 1
            assert await executor.fetch(numbers, 0) == []
            assert await executor.fetchrow(numbers, 0) is None
            assert await executor.fetchval(numbers, 0) is None


async def test_a_value_of_every_type_comes_back(plugin: ModuleType, url: str) -> None:
    async with plugin.create_pool(url) as pool:
        for kind, value in VALUES:
            found = await pool.fetchval(sql(pool, f"SELECT $1::{kind}"), value)
            if isinstance(found, memoryview):  # psycopg2's bytea
                found = bytes(found)
            assert found == value
            assert isinstance(found, type(value))
        document = await pool.fetchval(sql(pool, "SELECT $1::json"), '{"a": 1}')
        assert document == ({"a": 1} if plugin is aiopg else '{"a": 1}')


async def test_execute_counts_rows(plugin: ModuleType, url: str) -> None:
    async with pool_with_table(plugin, url) as pool:
        assert await insert(pool, pool, 1) == 1
        statement = sql(pool, "INSERT INTO things SELECT n FROM generate_series($1::int, 11) n")
        assert await pool.execute(statement, 2) == 10
        assert await pool.execute("UPDATE things SET name = 'x' WHERE id > 3") == 8
        assert await pool.execute("UPDATE things SET name = 'x' WHERE id > 99") == 0
        assert await pool.execute("DELETE FROM things WHERE id > 10 RETURNING id") == 1
        assert await pool.execute("SELECT id FROM things") == 10
        assert await pool.execute("CREATE TABLE copies AS SELECT * FROM things") == 10
        assert await pool.execute("DROP TABLE copies") == 0
        assert await pool.execute("SET geqo = on") == 0
        assert await pool.fetch("DELETE FROM things") == []
        assert await pool.fetchval("DELETE FROM things") is None
        assert await ids(pool) == []


async def test_a_percent_sign_is_itself_in_a_statement_without_arguments(
    plugin: ModuleType, url: str
) -> None:
    async with plugin.create_pool(url) as pool:
        assert await pool.fetchval("SELECT 'a' LIKE '%a' AND '%s' <> ''") is True
        assert await pool.fetchval(sql(pool, "SELECT $1::text LIKE '%a%'"), "cab") is True


def test_a_pool_names_its_placeholders_in_the_words_of_pep_249() -> None:
    assert (aiopg.Pool.paramstyle, asyncpg.Pool.paramstyle) == ("format", "numeric_dollar")


async def test_an_error_of_the_statement_stays_the_drivers_own(
    plugin: ModuleType, url: str
) -> None:
    async with pool_with_table(plugin, url) as pool:
        with pytest.raises(SYNTAX_ERROR):
            await pool.fetch("SELEC 1")
        await insert(pool, pool, 1)
        with pytest.raises(UNIQUE_VIOLATION):
            await insert(pool, pool, 1)
        assert pool.freesize == 1


async def test_the_drivers_own_connection_commits_each_statement(
    plugin: ModuleType, url: str
) -> None:
    async with pool_with_table(plugin, url) as pool:
        async with pool.connection() as connection:
            if plugin is aiopg:
                async with connection.cursor() as cursor:
                    await cursor.execute("INSERT INTO things VALUES (1)")
            else:
                await connection.execute("INSERT INTO things VALUES (1)")
            assert await ids(pool) == [1]
        assert (pool.size, pool.freesize) == (2, 2)


# Text that PostgreSQL cannot store.


async def test_text_that_cannot_be_stored_is_an_invalid_argument(
    plugin: ModuleType, url: str
) -> None:
    async def in_transaction(statement: str, value: Any) -> None:
        async with pool.transaction() as transaction:
            await transaction.execute(statement, value)

    async def on_connection(statement: str, value: Any) -> None:
        async with pool.connection() as connection:
            if plugin is asyncpg:
                await connection.execute(statement, value)
                return
            async with connection.cursor() as cursor:
                await cursor.execute(statement, (value,))

    async with plugin.create_pool(url) as pool:
        verbs = pool.fetch, pool.fetchrow, pool.fetchval, pool.execute
        for kind, value, message in REFUSED_TEXTS:
            for run in (*verbs, in_transaction, on_connection):
                with pytest.raises(InvalidArgument, match=message):
                    await run(sql(pool, f"SELECT $1::{kind}"), value)
        assert await pool.fetchval("SELECT 1") == 1
        assert pool.size == 1


async def test_bytes_of_a_statement_that_are_no_text_are_an_invalid_argument(
    plugin: ModuleType, url: str
) -> None:
    async with plugin.create_pool(url) as pool:
        with pytest.raises(InvalidArgument, match=r"is refused: invalid byte sequence .*: 0xff"):
            await pool.fetchval(sql(pool, "SELECT convert_from($1::bytea, 'UTF8')"), b"\xff")


async def test_a_value_error_of_the_driver_stays_one(url: str) -> None:
    class Bad:
        def __conform__(self, _: object) -> object:
            raise ValueError("not a point")

    async with aiopg.create_pool(url) as pool:
        with pytest.raises(ValueError, match="not a point"):
            await pool.execute("SELECT %s", Bad())
        assert await pool.fetchval("SELECT 1") == 1


# Transactions.


async def test_a_transaction_commits_at_its_end(plugin: ModuleType, url: str) -> None:
    async with pool_with_table(plugin, url) as pool:
        async with pool.transaction() as transaction:
            await insert(pool, transaction, 1)
            assert await ids(transaction) == [1]
            assert await ids(pool) == []
        assert await ids(pool) == [1]
        assert pool.freesize == pool.size


async def test_a_transaction_rolls_back_if_it_raises(plugin: ModuleType, url: str) -> None:
    async def fail() -> None:
        async with pool.transaction() as transaction:
            await insert(pool, transaction, 1)
            raise TimeoutError("the caller's own")

    async with pool_with_table(plugin, url) as pool:
        with pytest.raises(TimeoutError, match="the caller's own"):
            await fail()
        assert await ids(pool) == []
        assert pool.freesize == 1


async def test_options_of_a_transaction_reach_the_server(plugin: ModuleType, url: str) -> None:
    async with plugin.create_pool(url) as pool:
        for options, wanted in OPTIONS:
            async with pool.transaction(**options) as transaction:
                found = [await transaction.fetchval(f"SHOW {name}") for name in SETTINGS]
                assert tuple(found) == wanted
        assert await pool.fetchval("SHOW transaction_read_only") == "off"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"isolation": "serialisable"}, "read committed, repeatable read, .*got 'serialisable'"),
        ({"deferrable": True}, "deferrable acts only with isolation='serializable' and readonly"),
    ],
)
async def test_wrong_options_of_a_transaction_are_refused(
    plugin: ModuleType, url: str, options: Any, message: str
) -> None:
    async with plugin.create_pool(url) as pool:
        with pytest.raises(ValueError, match=message):
            await pool.transaction(**options).__aenter__()
        assert (pool.size, pool.freesize) == (1, 1)


async def test_an_error_caught_inside_a_transaction_is_not_taken_for_a_commit(
    plugin: ModuleType, url: str
) -> None:
    async def catch_inside() -> None:
        async with pool.transaction() as transaction:
            await insert(pool, transaction, 1)
            with pytest.raises(SYNTAX_ERROR):
                await transaction.execute("SELEC 1")

    async with pool_with_table(plugin, url) as pool:
        with pytest.raises(RuntimeError, match="rolled the transaction back, because a statement"):
            await catch_inside()
        assert await ids(pool) == []
        assert pool.freesize == 1


async def test_a_savepoint_saves_a_transaction_from_a_failed_statement(
    plugin: ModuleType, url: str
) -> None:
    async with pool_with_table(plugin, url) as pool:
        await insert(pool, pool, 1)
        async with pool.transaction() as transaction:
            await transaction.execute("SAVEPOINT before")
            with pytest.raises(UNIQUE_VIOLATION):
                await insert(pool, transaction, 1)
            await transaction.execute("ROLLBACK TO before")
            await insert(pool, transaction, 2)
        assert await ids(pool) == [1, 2]


async def test_a_constraint_that_fails_at_commit_is_the_drivers_error(
    plugin: ModuleType, url: str
) -> None:
    async def break_a_constraint_at_commit() -> None:
        async with pool.transaction() as transaction:
            await transaction.execute("SET CONSTRAINTS ALL DEFERRED")
            await insert(pool, transaction, 1)
            await insert(pool, transaction, 1)

    async with pool_with_table(plugin, url) as pool:
        with pytest.raises(UNIQUE_VIOLATION):
            await break_a_constraint_at_commit()
        assert await ids(pool) == []
        assert pool.freesize == 1


async def test_a_transaction_takes_no_statement_of_another_task(
    plugin: ModuleType, url: str, ask: Ask
) -> None:
    async def leave_while_busy() -> None:
        async with pool.transaction() as transaction:
            tasks.append(asyncio.create_task(transaction.execute("SELECT pg_sleep(9)")))
            await until_async(lambda: busy(ask, pid))
            with pytest.raises(RuntimeError, match="use it from one task at a time"):
                await insert(pool, transaction, 1)

    tasks: list[asyncio.Task[int]] = []
    async with pool_with_table(plugin, url) as pool:
        pid = await pool.fetchval(PID)
        with pytest.raises(RuntimeError, match="use it from one task at a time"):
            await leave_while_busy()
        with pytest.raises(DatabaseUnavailable):
            await tasks[0]
        assert await ids(pool) == []


async def test_a_transaction_that_has_ended_takes_no_statement(
    plugin: ModuleType, url: str
) -> None:
    async with plugin.create_pool(url) as pool:
        async with pool.transaction() as committed:
            pass
        with suppress(ZeroDivisionError):
            async with pool.transaction() as rolled_back:
                raise ZeroDivisionError
        for transaction in (committed, rolled_back):
            with pytest.raises(RuntimeError, match="the transaction has ended"):
                await transaction.execute("SELECT 1")


@pytest.mark.parametrize("during", ["statement", "pause", "begin"])
async def test_a_cancelled_transaction_is_rolled_back(
    plugin: ModuleType, url: str, ask: Ask, caplog: pytest.LogCaptureFixture, during: str
) -> None:
    async def transact() -> None:
        async with pool.transaction() as transaction:
            await insert(pool, transaction, 1)
            inserted.set()
            if during == "statement":
                await transaction.execute("SELECT pg_sleep(9)")
            await asyncio.sleep(60)

    inserted = asyncio.Event()
    async with pool_with_table(plugin, url, maxsize=1) as pool:
        pid = await pool.fetchval(PID)
        task = asyncio.create_task(transact())
        if during == "begin":
            await asyncio.sleep(0)  # BEGIN has been sent
        else:
            await inserted.wait()
            if during == "statement":
                await until_async(lambda: busy(ask, pid))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await ids(pool) == []
        assert [record for record in caplog.records if record.levelno > logging.WARNING] == []


@pytest.mark.parametrize("moment", ["statement", "pause", "end", "commit"])
async def test_a_killed_backend_ends_a_transaction_with_database_unavailable(
    plugin: ModuleType, url: str, ask: Ask, moment: str
) -> None:
    async def transact() -> None:
        async with pool.transaction() as transaction:
            await insert(pool, transaction, 1)
            pid = await transaction.fetchval(PID)
            if moment == "statement":
                await transaction.execute("SELECT pg_terminate_backend(pg_backend_pid())")
            kill(ask, pid)
            if moment != "commit":
                await until_async(lambda: transaction._session.closed)
            if moment == "pause":
                await transaction.execute("SELECT 1")

    async with pool_with_table(plugin, url) as pool:
        with pytest.raises(DatabaseUnavailable) as caught:
            await transact()
        assert str(caught.value).endswith("took effect is unknown") is (moment == "commit")
        assert await ids(pool) == []


async def test_a_connection_that_dies_while_it_commits_leaves_the_outcome_open(
    plugin: ModuleType, proxy: Proxy, url: str
) -> None:
    async def transact() -> None:
        async with pool.transaction() as transaction:
            await insert(pool, transaction, 1)
            proxy.silent_to_client = True

    async with proxy, pool_with_table(plugin, proxy.url) as pool:
        task = asyncio.create_task(transact())
        await until_async(lambda: proxy.swallowed > 0)  # the answer to COMMIT
        await proxy.close()
        with pytest.raises(DatabaseUnavailable, match="whether COMMIT took effect is unknown"):
            await task
        async with plugin.create_pool(url) as other:
            assert await ids(other) == [1]


async def test_a_server_that_falls_silent_does_not_hide_the_callers_error(
    plugin: ModuleType, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    async def transact() -> None:
        async with pool.transaction():
            proxy.silent = True
            raise ZeroDivisionError

    async with proxy, plugin.create_pool(proxy.url) as pool:
        with pytest.raises(ZeroDivisionError):
            await transact()
        proxy.silent = False
        assert "Closed a connection that could not be rolled back" in caplog.text
        assert await pool.fetchval("SELECT 1") == 1


# Limits.


async def test_a_statement_that_takes_too_long_is_a_query_timeout(
    plugin: ModuleType, url: str
) -> None:
    async def sleep_in_transaction() -> None:
        async with pool.transaction() as transaction:
            await insert(pool, transaction, 1)
            with pytest.raises(QueryTimeout, match="due to statement timeout"):
                await transaction.execute("SELECT pg_sleep(9)")
            raise ZeroDivisionError

    async with pool_with_table(plugin, url, statement_timeout=0.3) as pool:
        with pytest.raises(QueryTimeout, match="due to statement timeout"):
            await pool.execute("SELECT pg_sleep(9)")
        with pytest.raises(ZeroDivisionError):
            await sleep_in_transaction()
        assert await ids(pool) == []
        assert pool.freesize == 1


async def test_a_full_pool_is_pool_exhausted(plugin: ModuleType, url: str) -> None:
    async with plugin.create_pool(url, maxsize=1, acquire_timeout=0.2) as pool:
        async with pool.transaction() as transaction:
            for verb in (pool.fetch, pool.execute):
                with pytest.raises(PoolExhausted, match="all 1 connections stayed in use"):
                    await verb("SELECT 1")
            with pytest.raises(PoolExhausted):
                await pool.transaction().__aenter__()
            assert await transaction.fetchval("SELECT 1") == 1
        assert await pool.fetchval("SELECT 1") == 1


async def test_a_hundred_tasks_share_three_connections(plugin: ModuleType, url: str) -> None:
    async def work(number: int) -> Any:
        if number % 3 == 0:
            async with pool.transaction() as transaction:
                return await insert(pool, transaction, number)
        return await pool.fetchval(sql(pool, "SELECT $1::int"), number)

    async with pool_with_table(plugin, url, maxsize=3, acquire_timeout=60.0) as pool:
        answers = await asyncio.gather(*(work(number) for number in range(100)))
        assert answers == [1 if number % 3 == 0 else number for number in range(100)]
        assert await ids(pool) == list(range(0, 100, 3))
        assert (pool.size <= 3, pool.freesize, pool.waiting) == (True, pool.size, 0)
