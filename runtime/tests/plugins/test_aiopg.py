"""Every guard of the aiopg pool against a real server; without the guard its test fails."""

import asyncio
import logging
import os
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from statistics import median
from time import monotonic
from typing import Any

import psycopg2
import pytest
from aiopg import Connection, Cursor

from api_hour.exceptions import ConfigError, DatabaseUnavailable, PoolExhausted, QueryTimeout
from api_hour.plugins import aiopg
from api_hour.plugins._postgresql import ANSWER_MARGIN, PING_TIMEOUT
from api_hour.plugins.aiopg import Pool, create_pool
from api_hour.plugins.embedded import PostgreSQL
from runtime.tests.plugins.conftest import (
    AT_ONCE,
    AT_ONCE_IN_MEDIAN,
    PROTOCOL_VIOLATION,
    TOO_MUCH,
    Ask,
    Proxy,
    block_loop,
    busy,
    kill,
)
from testkit.waiting import until_async


async def fetch(pool: Pool, sql: str = "SELECT 1", *values: object) -> Any:
    async with pool.cursor() as cursor:
        await cursor.execute(sql, values)
        return (await cursor.fetchone())[0]


def pid_of(held: Cursor | Connection) -> int:
    connection = held.connection if isinstance(held, Cursor) else held
    return int(connection.raw.get_backend_pid())


async def start_statement(
    pool: Pool, ask: Ask, sql: str = "SELECT pg_sleep(9)"
) -> tuple["asyncio.Task[Any]", int]:
    """Start a statement; return its task and its backend once the server runs it."""
    async with pool.acquire() as connection:
        pid = pid_of(connection)
    task = asyncio.create_task(fetch(pool, sql))
    await until_async(lambda: busy(ask, pid))
    return task, pid


# Use.


async def test_rows_come_as_aiopg_gives_them(url: str) -> None:
    async with create_pool(url) as pool, pool.cursor() as cursor:
        await cursor.execute("SELECT n, %s FROM generate_series(1, 2) n", ("x",))
        assert await cursor.fetchall() == [(1, "x"), (2, "x")]


@pytest.mark.parametrize(
    ("sql", "error"),
    [
        ("SELEC 1", psycopg2.ProgrammingError),
        ("SELECT 1 / 0", psycopg2.DataError),
        (
            "CREATE TEMP TABLE t (n int CHECK (n > 0)); INSERT INTO t VALUES (0)",
            psycopg2.IntegrityError,
        ),
    ],
    ids=["syntax", "data", "constraint"],
)
async def test_an_error_of_the_statement_stays_psycopg2s_own(
    url: str, sql: str, error: type[Exception]
) -> None:
    async with create_pool(url) as pool:
        with pytest.raises(error):
            await fetch(pool, sql)
        assert pool.freesize == 1


async def test_an_error_in_a_transaction_rolls_it_back(url: str) -> None:
    async def insert_and_sleep_too_long() -> None:
        async with pool.cursor() as cursor, cursor.begin():
            await cursor.execute("INSERT INTO t VALUES (1)")
            await cursor.execute("SELECT pg_sleep(9)")

    async with create_pool(url, statement_timeout=1.0) as pool:
        async with pool.cursor() as cursor:
            await cursor.execute("CREATE TEMP TABLE t (n int)")
        with pytest.raises(QueryTimeout):
            await insert_and_sleep_too_long()
        assert await fetch(pool, "SELECT count(*) FROM t") == 0


async def test_a_failed_commit_causes_no_warning_later(url: str) -> None:
    async def break_a_constraint_at_commit() -> None:
        async with pool.cursor() as cursor, cursor.begin():
            await cursor.execute("CREATE TEMP TABLE t (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
            await cursor.execute("INSERT INTO t VALUES (1), (1)")

    async with create_pool(url) as pool:
        with pytest.raises(psycopg2.IntegrityError):
            await break_a_constraint_at_commit()
        assert pool.freesize == 1


async def test_a_parameter_larger_than_the_sockets_buffer_gets_through(url: str) -> None:
    async with create_pool(url) as pool:
        assert await fetch(pool, "SELECT length(%s)", "x" * 5_000_000) == 5_000_000


async def test_options_of_the_dsn_are_kept_beside_the_guards(url: str) -> None:
    async with create_pool(f"{url}&options=-c%20search_path%3Delsewhere") as pool:
        assert await fetch(pool, "SHOW search_path") == "elsewhere"
        assert await fetch(pool, "SHOW statement_timeout") == "5s"
        assert await fetch(pool, "SHOW idle_in_transaction_session_timeout") == "10s"


@pytest.mark.parametrize("dsn", ["postgresql+aiopg://u:secret@h/n", "host=h secret"])
async def test_a_dsn_that_cannot_be_parsed_is_refused_without_its_password(dsn: str) -> None:
    with pytest.raises(ConfigError, match=r"cannot parse .* write it as postgresql://") as caught:
        await create_pool(dsn).__aenter__()
    assert "secret" not in str(caught.value)


async def test_a_pool_of_no_connections_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="maxsize must be at least 1, got 0"):
        await create_pool(url, maxsize=0).__aenter__()


async def test_the_dsn_says_how_soon_a_connect_is_given_up(proxy: Proxy) -> None:
    async with proxy, create_pool(f"{proxy.url}?connect_timeout=1", connect_timeout=60) as pool:
        proxy.silent = True
        pool._close_free()
        with pytest.raises(DatabaseUnavailable, match=r"no answer within 1 s"):
            await fetch(pool)
    with pytest.raises(ConfigError, match=r"connect_timeout .* must be a whole number"):
        await create_pool(f"{proxy.url}?connect_timeout=soon").__aenter__()


async def test_the_socket_finds_a_dead_peer_as_soon_as_the_dsn_says(proxy: Proxy) -> None:
    async with (
        proxy,
        create_pool(f"{proxy.url}?keepalives_idle=32767&keepalives_count=127") as pool,
        pool.acquire() as connection,
    ):
        with socket.socket(fileno=os.dup(connection.raw.fileno())) as sock:
            options = [
                sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, f"TCP_{name}"))
                for name in ("KEEPIDLE", "KEEPINTVL", "KEEPCNT", "USER_TIMEOUT")
            ]
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert options == [32767, 5, 127, 3000]


@pytest.mark.parametrize(("name", "value"), TOO_MUCH)
async def test_more_than_the_system_takes_prevents_the_start(
    url: str, name: str, value: str
) -> None:
    with pytest.raises(ConfigError, match=rf"^{name} .*must be a whole number from 0 to \d+$"):
        await create_pool(f"{url}&{name}={value}").__aenter__()


# Statements that take too long.


async def test_a_statement_that_takes_too_long_is_a_query_timeout(url: str) -> None:
    async with create_pool(url, statement_timeout=0.2) as pool, pool.cursor() as cursor:
        with pytest.raises(QueryTimeout, match="due to statement timeout") as caught:
            await cursor.execute("SELECT pg_sleep(9)")
        assert isinstance(caught.value.__cause__, psycopg2.extensions.QueryCanceledError)
        await cursor.execute("SELECT 1")


async def test_a_statement_may_have_a_timeout_of_its_own(url: str) -> None:
    async with create_pool(url) as pool, pool.cursor() as cursor:
        with pytest.raises(QueryTimeout, match=r"no answer to a statement within 0\.1 s"):
            await cursor.execute("SELECT pg_sleep(9)", timeout=0.1)


async def test_a_cancelled_task_is_cancelled(url: str, ask: Ask) -> None:
    async with create_pool(url) as pool:
        task, _ = await start_statement(pool, ask)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_timeout_of_the_caller_stays_a_timeout_error(url: str) -> None:
    async with create_pool(url) as pool:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(fetch(pool, "SELECT pg_sleep(9)"), 0.1)


async def test_the_server_ends_a_statement_whose_client_is_gone(url: str, ask: Ask) -> None:
    async with create_pool(url, statement_timeout=0) as pool:
        task, pid = await start_statement(pool, ask, "SELECT pg_sleep(60)")
        task.cancel()
        await until_async(lambda: not busy(ask, pid), timeout=3 * AT_ONCE)


async def test_a_server_that_falls_silent_is_a_query_timeout(proxy: Proxy) -> None:
    async with proxy, create_pool(proxy.url, statement_timeout=0.1) as pool:
        proxy.silent = True
        started = monotonic()
        with pytest.raises(QueryTimeout, match="no answer"):
            await fetch(pool)
        assert monotonic() - started < 0.1 + ANSWER_MARGIN + AT_ONCE
        proxy.silent = False
        assert await fetch(pool) == 1


# Connections that die.


async def test_a_killed_backend_is_database_unavailable_once(url: str, ask: Ask) -> None:
    async with create_pool(url) as pool:
        task, pid = await start_statement(pool, ask)
        kill(ask, pid)
        with pytest.raises(DatabaseUnavailable, match="terminating connection") as caught:
            await task
        assert isinstance(caught.value.__cause__, psycopg2.OperationalError)
        assert await fetch(pool) == 1


async def test_a_connection_that_died_in_use_is_database_unavailable(url: str, ask: Ask) -> None:
    async with create_pool(url) as pool, pool.acquire() as connection:
        cursor = await connection.cursor()
        kill(ask, pid_of(connection))
        await until_async(lambda: connection.closed)
        with pytest.raises(DatabaseUnavailable):
            await cursor.execute("SELECT 1")
        with pytest.raises(DatabaseUnavailable):
            await connection.cursor()


async def test_rows_of_a_dead_connection_are_database_unavailable(url: str, ask: Ask) -> None:
    async def fetch_late() -> None:
        async with pool.cursor() as cursor:
            await cursor.execute("SELECT 1")
            kill(ask, pid_of(cursor))
            await until_async(lambda: cursor.closed)
            await cursor.fetchone()

    async with create_pool(url) as pool:
        with pytest.raises(DatabaseUnavailable):
            await fetch_late()


@pytest.mark.parametrize("moment", ["BEGIN", "COMMIT"])
async def test_a_transaction_whose_connection_dies_causes_no_warning_later(
    url: str, ask: Ask, moment: str
) -> None:
    async def transact() -> None:
        async with pool.cursor() as cursor:
            if moment == "BEGIN":
                kill(ask, pid_of(cursor))
            async with cursor.begin():
                kill(ask, pid_of(cursor))

    async with create_pool(url) as pool:
        with pytest.raises(DatabaseUnavailable):
            await transact()
        assert await fetch(pool) == 1


async def test_a_transaction_that_idles_is_ended_by_the_server(url: str) -> None:
    async def idle_in_transaction() -> None:
        async with pool.cursor() as cursor, cursor.begin():
            await until_async(lambda: cursor.closed)
            await cursor.execute("SELECT 1")

    async with create_pool(url, idle_in_transaction_timeout=0.2) as pool:
        with pytest.raises(DatabaseUnavailable):
            await idle_in_transaction()


async def test_a_connection_that_died_before_the_loop_read_it_is_not_handed_out(
    url: str, ask: Ask
) -> None:
    async with create_pool(url) as pool:
        kill(ask, await fetch(pool, "SELECT pg_backend_pid()"))
        assert await fetch(pool) == 1


async def test_closing_a_connection_twice_leaves_its_successor_alone(url: str) -> None:
    async with create_pool(url) as pool, pool.acquire() as first:
        descriptor = first.raw.fileno()
        first.close()
        async with pool.acquire() as second:
            assert second.raw.fileno() == descriptor
            first.close()
            async with asyncio.timeout(5), second.cursor() as cursor:
                await cursor.execute("SELECT 1")


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Use up the descriptors below 1,024, as a worker with a thousand clients does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(1024)]
    yield
    for descriptor in taken:
        os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_descriptors")
async def test_errors_come_at_once_in_a_process_with_a_thousand_descriptors(url: str) -> None:
    async with create_pool(url, statement_timeout=60.0) as pool:
        started = monotonic()
        with pytest.raises(psycopg2.ProgrammingError):
            await fetch(pool, "SELEC 1")
        with pytest.raises(DatabaseUnavailable):
            await fetch(pool, "SELECT pg_terminate_backend(pg_backend_pid())")
        assert monotonic() - started < AT_ONCE


# The pool.


async def test_minsize_connections_are_open_from_the_start(url: str) -> None:
    async with create_pool(url, minsize=4) as pool:
        assert pool.freesize == 4


async def test_a_pool_reports_its_size_and_its_waiters(url: str) -> None:
    async with create_pool(url, maxsize=2, acquire_timeout=5.0) as pool:
        async with pool.cursor():
            assert (pool.size - pool.freesize, pool.waiting) == (1, 0)
            async with pool.cursor():
                late = asyncio.create_task(fetch(pool))
                await asyncio.sleep(0)
                assert (pool.size, pool.freesize, pool.waiting) == (2, 0, 1)
        assert await late == 1
        assert (pool.size, pool.freesize, pool.waiting) == (2, 2, 0)


async def test_a_full_pool_is_pool_exhausted(url: str) -> None:
    async with create_pool(url, maxsize=1, acquire_timeout=0.1) as pool:
        async with pool.cursor():
            with pytest.raises(PoolExhausted, match="all 1 connections stayed in use") as caught:
                await fetch(pool)
        assert isinstance(caught.value.__cause__, TimeoutError)
        assert await fetch(pool) == 1


async def test_a_connection_that_dies_in_use_wakes_a_waiting_task(url: str, ask: Ask) -> None:
    async with create_pool(url, maxsize=1, acquire_timeout=10.0) as pool:
        holder, pid = await start_statement(pool, ask)
        tasks: list[asyncio.Task[Any]] = [holder, asyncio.create_task(fetch(pool))]
        await asyncio.sleep(0)
        started = monotonic()
        kill(ask, pid)
        lost, answer = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(lost, DatabaseUnavailable)
        assert answer == 1
        assert monotonic() - started < AT_ONCE


async def test_every_other_task_is_served_when_half_of_200_are_cancelled(url: str) -> None:
    async def work(number: int) -> int:
        async with pool.cursor() as cursor:
            if number % 4 == 0:
                loop.call_later(0.002, tasks[number].cancel)  # during its statement
                await cursor.execute("SELECT pg_sleep(9)")
            await cursor.execute("SELECT pg_sleep(0.01)")
            return number

    loop = asyncio.get_running_loop()
    async with create_pool(url, maxsize=5, acquire_timeout=60.0) as pool:
        async with AsyncExitStack() as stack:
            for _ in range(5):
                await stack.enter_async_context(pool.cursor())
            tasks = [loop.create_task(work(number)) for number in range(200)]
            await asyncio.sleep(0)  # each of them waits for a connection
        for number in range(2, 200, 4):
            loop.call_later(number * 0.001, tasks[number].cancel)  # mostly while it waits
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert results[1::2] == list(range(1, 200, 2))
        assert all(isinstance(result, asyncio.CancelledError) for result in results[::4])
        async with AsyncExitStack() as stack, asyncio.timeout(60):
            for _ in range(5):
                await stack.enter_async_context(pool.cursor())


async def test_a_connect_that_hangs_does_not_block_a_free_connection(proxy: Proxy) -> None:
    async with proxy, create_pool(proxy.url, maxsize=2, connect_timeout=4.0) as pool:
        async with pool.cursor():
            proxy.silent = True
            hanging = asyncio.create_task(fetch(pool))
            await until_async(lambda: proxy.swallowed == 1)
            proxy.silent = False
        assert await fetch(pool) == 1
        assert not hanging.done()
        with pytest.raises(DatabaseUnavailable, match=r"no connection: no answer within 4\.0 s"):
            await hanging


async def test_a_connection_released_inside_a_transaction_is_closed(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with create_pool(url, maxsize=1) as pool:
        await fetch(pool, "BEGIN; SELECT 1")
        assert "inside a transaction" in caplog.text
        assert pool.size == 0
        assert await fetch(pool) == 1


async def test_closing_waits_for_connections_in_use_but_not_forever(
    url: str, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask("SELECT pg_advisory_lock(7)")
    async with create_pool(url) as pool:
        quick, _ = await start_statement(pool, ask, "SELECT 1 FROM pg_advisory_lock(7)")
        asyncio.get_running_loop().call_later(0.2, ask, "SELECT pg_advisory_unlock(7)")
    assert quick.done()
    monkeypatch.setattr(aiopg, "CLOSE_GRACE", 0.1)
    async with create_pool(url) as pool:
        slow, _ = await start_statement(pool, ask)
    with pytest.raises(DatabaseUnavailable):
        await slow


async def test_a_ping_fails_in_less_than_a_second(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ping_fails(error: type[Exception], message: str) -> None:
        started = monotonic()
        with pytest.raises(error, match=message):
            await pool.ping()
        assert monotonic() - started < PING_TIMEOUT + AT_ONCE

    assert PING_TIMEOUT < 1.0
    patient: dict[str, Any] = {"acquire_timeout": 60.0, "statement_timeout": 60.0}
    async with proxy, create_pool(proxy.url, maxsize=1, **patient) as pool:
        await pool.ping()
        monkeypatch.setattr(aiopg, "PING_TIMEOUT", PING_TIMEOUT)
        async with pool.cursor():
            await ping_fails(PoolExhausted, "no answer to a ping")
        proxy.silent = True
        await ping_fails(DatabaseUnavailable, "no answer to a ping")  # on an open connection
        await ping_fails(DatabaseUnavailable, "no answer to a ping")  # on one that does not open
        await proxy.close()
        await ping_fails(DatabaseUnavailable, "refused")


# Outages.


async def test_a_stopped_server_and_its_return_are_noticed_at_once(
    server: PostgreSQL,
) -> None:
    async with create_pool(server.url, minsize=5) as pool:
        await asyncio.to_thread(server.stop)
        times = []
        try:
            for _ in range(20):
                started = monotonic()
                with pytest.raises(DatabaseUnavailable):
                    await fetch(pool)
                times.append(monotonic() - started)
        finally:
            await asyncio.to_thread(server.start)
        assert median(times) < AT_ONCE_IN_MEDIAN
        assert max(times) < AT_ONCE
        assert await fetch(pool) == 1


async def test_an_outage_under_load_is_database_unavailable_at_once(
    server: PostgreSQL,
) -> None:
    answers: list[float] = []
    errors: list[Exception] = []
    times: list[float] = []

    async def ask_repeatedly(pool: Pool) -> None:
        while True:
            started = monotonic()
            try:
                await fetch(pool)
                answers.append(monotonic())
            except Exception as error:
                errors.append(error)
            times.append(monotonic() - started)
            await asyncio.sleep(0.001)

    async with create_pool(server.url, maxsize=5, acquire_timeout=60.0) as pool:
        tasks = [asyncio.create_task(ask_repeatedly(pool)) for _ in range(20)]
        await until_async(lambda: len(answers) > 100)
        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(server.start)
        restarted = monotonic()
        await until_async(lambda: answers[-1] > restarted, timeout=AT_ONCE)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(error) for error in errors} == {DatabaseUnavailable}
    assert median(times) < AT_ONCE_IN_MEDIAN
    assert max(times) < AT_ONCE


async def test_the_server_may_be_down_at_the_start(
    proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    async with proxy:
        await proxy.close()
        async with create_pool(proxy.url, minsize=3) as pool:
            assert [record.levelno for record in caplog.records] == [logging.WARNING]
            assert (
                "Starting without PostgreSQL for now: no connection: Connection refused"
                in caplog.text
            )
            await proxy.open()
            assert await fetch(pool) == 1


async def test_a_refused_connect_does_not_harm_the_next_one(proxy: Proxy) -> None:
    async with proxy, create_pool(proxy.url, minsize=0) as pool:
        for _ in range(10):
            await proxy.close()
            with pytest.raises(DatabaseUnavailable, match="refused"):
                await fetch(pool)
            await proxy.open()
            assert await fetch(pool) == 1


async def test_every_address_is_tried(proxy: Proxy) -> None:
    async with proxy:
        both = proxy.url.replace("@127.0.0.1:", "@127.0.0.1:1,127.0.0.1:")
        async with create_pool(both, minsize=0) as pool:
            assert await fetch(pool) == 1


async def test_a_host_name_is_resolved_by_the_loop_not_by_libpq(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def resolve(host: str, *_: object, **__: object) -> list[tuple[Any, ...]]:
        assert host == "db.invalid"
        return [(0, 0, 0, "", ("::1", 0)), (0, 0, 0, "", ("127.0.0.1", 0))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    async with proxy:
        named = proxy.url.replace("127.0.0.1", "db.invalid")
        async with create_pool(named, minsize=0) as pool:
            assert await fetch(pool) == 1


async def test_a_pooler_that_refuses_the_guards_is_used_without_them(
    proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.refuses_guards = True
    async with proxy, create_pool(proxy.url, minsize=3, statement_timeout=0.1) as pool:
        assert pool.freesize == 3
        assert len(caplog.records) == 1
        assert "parameter: options: set the timeouts with ALTER ROLE instead" in caplog.text
        with pytest.raises(QueryTimeout, match="no answer"):
            await fetch(pool, "SELECT pg_sleep(9)")


# Failovers, and connections that a firewall has forgotten.


async def test_a_primary_that_became_a_standby_is_database_unavailable_until_there_is_one(
    url: str, read_only: Callable[[str], None]
) -> None:
    write = "CREATE TEMPORARY TABLE written (id int)"
    dsn = f"{url}{'&' if '?' in url else '?'}target_session_attrs=read-write"
    async with create_pool(dsn, minsize=3) as pool, create_pool(url) as other:
        read_only("on")
        with pytest.raises(DatabaseUnavailable, match="read-only"):
            await fetch(pool, write)
        assert pool.freesize == 0
        with pytest.raises(DatabaseUnavailable, match="no connection"):
            await fetch(pool)
        with pytest.raises(psycopg2.errors.ReadOnlySqlTransaction):
            await fetch(other, write)
        read_only("off")
        assert await fetch(pool) == 1


async def test_what_says_nothing_of_the_server_closes_no_other_connection(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with create_pool(url, minsize=3) as pool:
        with pytest.raises(psycopg2.errors.ProtocolViolation):
            await fetch(pool, PROTOCOL_VIOLATION)
        assert pool.freesize == 3
        monkeypatch.setattr(aiopg, "PING_TIMEOUT", 0.1)
        await block_loop(pool.ping())
        assert pool.freesize >= 2


async def test_one_dead_connection_is_enough_to_find_the_others(proxy: Proxy) -> None:
    async with proxy, create_pool(proxy.url, minsize=5, statement_timeout=0.2) as pool:
        assert pool.freesize == 5
        proxy.forget()
        with pytest.raises(QueryTimeout, match="no answer"):
            await fetch(pool)
        for _ in range(6):
            assert await fetch(pool) == 1
