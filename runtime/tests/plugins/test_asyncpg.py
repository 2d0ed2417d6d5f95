"""The asyncpg pool against a real server: the same three errors, each of them in time."""

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Any
from urllib.parse import urlencode, urlsplit

import asyncpg
import pytest

from api_hour.exceptions import ConfigError, DatabaseUnavailable, PoolExhausted, QueryTimeout
from api_hour.plugins import asyncpg as plugin
from api_hour.plugins._postgresql import ANSWER_MARGIN, PING_TIMEOUT
from api_hour.plugins.asyncpg import Pool, create_pool
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
    async with pool.connection() as connection:
        return await connection.fetchval(sql, *values)


async def start_statement(
    pool: Pool, ask: Ask, sql: str = "SELECT pg_sleep(9)"
) -> tuple["asyncio.Task[Any]", int]:
    """Start a statement; return its task and its backend once the server runs it."""
    pid = await fetch(pool, "SELECT pg_backend_pid()")
    task = asyncio.create_task(fetch(pool, sql))
    await until_async(lambda: busy(ask, pid))
    return task, pid


# Use.


async def test_rows_come_as_asyncpg_gives_them(url: str) -> None:
    async with create_pool(url) as pool, pool.connection() as connection:
        row = await connection.fetchrow("SELECT $1::int AS id, 'x' AS name", 7)
        assert dict(row) == {"id": 7, "name": "x"}


@pytest.mark.parametrize(
    ("sql", "error"),
    [
        ("SELEC 1", asyncpg.PostgresSyntaxError),
        ("SELECT 1 / 0", asyncpg.DataError),
        ("SELECT $1::int", asyncpg.InterfaceError),
    ],
    ids=["syntax", "data", "arguments"],
)
async def test_an_error_of_the_statement_stays_asyncpgs_own(
    url: str, sql: str, error: type[Exception]
) -> None:
    async with create_pool(url) as pool:
        with pytest.raises(error):
            await fetch(pool, sql)
        assert await fetch(pool) == 1


@pytest.mark.parametrize("dsn", ["postgresql+asyncpg://u:secret@h/n", "host=h password=secret"])
async def test_a_dsn_that_cannot_be_parsed_is_refused_without_its_password(dsn: str) -> None:
    with pytest.raises(ConfigError, match=r"cannot parse .* write it as postgresql://") as caught:
        await create_pool(dsn).__aenter__()
    assert "secret" not in str(caught.value)


def with_parameters(url: str, **parameters: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}{urlencode(parameters)}"


async def test_parameters_of_libpq_act_or_are_ignored_with_one_warning(
    url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "passes").write_text("")
    dsn = with_parameters(
        url,
        channel_binding="require",
        gssencmode="prefer",
        load_balance_hosts="random",
        sslcompression="0",
        sslsni="1",
        client_encoding="UTF8",
        keepalives_idle="20",
        tcp_user_timeout="5000",
        connect_timeout="3",
        fallback_application_name="hello",
        options="-c geqo=off",
        target_session_attrs="read-write",
        passfile=str(tmp_path / "passes"),
        search_path="pg_catalog",
    )
    async with create_pool(dsn) as pool:
        assert await fetch(pool, "SHOW application_name") == "hello"
        assert await fetch(pool, "SHOW geqo") == "off"
        assert await fetch(pool, "SHOW search_path") == "pg_catalog"
    (warning,) = caplog.messages
    assert warning.endswith(
        "ignored: channel_binding, gssencmode, load_balance_hosts, sslcompression, sslsni, "
        "client_encoding"
    )


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"require_auth": "scram-sha-256"}, "require_auth .*cannot be had with asyncpg: remove it"),
        ({"gssencmode": "require"}, "gssencmode .*cannot be had"),
        ({"client_encoding": "latin1"}, "client_encoding .*cannot be had"),
        ({"hostaddr": "127.0.0.1"}, "hostaddr .*cannot be had"),
        ({"connect_timeout": "soon"}, "connect_timeout .*must be a whole number"),
        ({"keepalives_idle": "1.5"}, "keepalives_idle .*must be a whole number"),
        *(
            ({name: value}, rf"{name} .*must be a whole number from 0 to \d+$")
            for name, value in TOO_MUCH
        ),
        ({"target_session_attrs": "write"}, "target_session_attrs .*must be one of any, primary"),
        ({"sslmode": "verify"}, "sslmode .*must be one of disable"),
        ({"sslrootcert": "/none"}, "file of sslrootcert .*cannot be read"),
        ({"sslrootcert": "system", "sslmode": "require"}, "needs sslmode=verify-full"),
        ({"sslmod": "require"}, 'refuses .* unrecognized configuration parameter "sslmod"'),
        ({"ssl": "true"}, 'refuses .*parameter "ssl" cannot be changed now'),
    ],
)
async def test_a_parameter_that_cannot_act_prevents_the_start(
    url: str, parameters: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        await create_pool(with_parameters(url, **parameters)).__aenter__()
    assert str(urlsplit(url).password) not in str(caught.value)


@pytest.mark.parametrize("password", ["s3cr?et", "s3cr#et", "s3cr?x=et&y=1"])
async def test_a_password_that_breaks_the_url_is_not_shown(password: str) -> None:
    with pytest.raises(ConfigError, match="special characters as %XX") as caught:
        await create_pool(f"postgresql://u:{password}@h/n").__aenter__()
    assert "s3cr" not in str(caught.value)
    assert "et" not in str(caught.value).replace("write", "").split()


async def test_authorities_of_the_system_are_not_a_files_name() -> None:
    dsn = plugin._read_dsn("postgresql://h/n?sslrootcert=system")
    assert dsn.url == "postgresql://h/n"
    assert dsn.tls is not None
    assert dsn.tls.check_hostname


async def test_the_socket_finds_a_dead_peer_as_soon_as_the_dsn_says(proxy: Proxy) -> None:
    async with proxy:
        most = {"keepalives_idle": "32767", "keepalives_interval": "32767"}
        dsn = with_parameters(proxy.url, keepalives_count="127", **most)
        async with create_pool(dsn) as pool, pool.connection() as connection:
            sock = connection._transport.get_extra_info("socket")
            options = {
                name: sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, f"TCP_{name}"))
                for name in ("KEEPIDLE", "KEEPINTVL", "KEEPCNT", "USER_TIMEOUT")
            }
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert list(options.values()) == [32767, 32767, 127, 3000]


# Statements that take too long.


async def test_a_statement_that_takes_too_long_is_a_query_timeout(url: str) -> None:
    async with create_pool(url, statement_timeout=0.2) as pool:
        with pytest.raises(QueryTimeout, match="due to statement timeout") as caught:
            await fetch(pool, "SELECT pg_sleep(9)")
        assert isinstance(caught.value.__cause__, asyncpg.QueryCanceledError)
        assert await fetch(pool) == 1


async def test_a_cancelled_task_is_cancelled_on_the_server_too(url: str, ask: Ask) -> None:
    async with create_pool(url) as pool:
        task, pid = await start_statement(pool, ask)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not busy(ask, pid)


async def test_a_server_that_falls_silent_is_a_query_timeout(proxy: Proxy) -> None:
    async with proxy, create_pool(proxy.url, statement_timeout=0.1, acquire_timeout=2.0) as pool:
        proxy.silent = True
        started = monotonic()
        with pytest.raises(QueryTimeout, match="no answer"):
            await fetch(pool)
        assert monotonic() - started < 0.1 + 2.0 + ANSWER_MARGIN + AT_ONCE
        proxy.silent = False
        assert await fetch(pool) == 1


# Connections that die.


async def test_a_killed_backend_is_database_unavailable_once(url: str, ask: Ask) -> None:
    async with create_pool(url) as pool:
        task, pid = await start_statement(pool, ask)
        kill(ask, pid)
        with pytest.raises(DatabaseUnavailable, match="terminating connection") as caught:
            await task
        assert isinstance(caught.value.__cause__, asyncpg.PostgresError)
        assert await fetch(pool) == 1


async def test_a_connection_that_died_in_use_is_database_unavailable(url: str, ask: Ask) -> None:
    async def fetch_late() -> None:
        async with pool.connection() as connection:
            kill(ask, await connection.fetchval("SELECT pg_backend_pid()"))
            await until_async(lambda: pool.get_size() == 0)
            await connection.fetchval("SELECT 1")

    async with create_pool(url) as pool:
        with pytest.raises(DatabaseUnavailable):
            await fetch_late()
        assert await fetch(pool) == 1


async def test_a_server_that_shuts_down_is_database_unavailable(proxy: Proxy) -> None:
    async with proxy, create_pool(proxy.url) as pool:
        proxy.announce_shutdown()
        await asyncio.sleep(0.05)  # nothing can be awaited that shows that asyncpg has read it
        with pytest.raises(DatabaseUnavailable):
            await fetch(pool)
        assert await fetch(pool) == 1


async def test_a_transaction_that_idles_is_ended_by_the_server(url: str) -> None:
    async def idle_in_transaction() -> None:
        async with pool.connection() as connection, connection.transaction():
            await until_async(lambda: pool.get_size() == 0)
            await connection.execute("SELECT 1")

    async with create_pool(url, idle_in_transaction_timeout=0.2) as pool:
        with pytest.raises(DatabaseUnavailable):
            await idle_in_transaction()


async def test_a_connection_that_cannot_be_reset_does_not_fail_its_caller(
    proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    async with proxy, create_pool(proxy.url, acquire_timeout=2.0) as pool:
        async with pool.connection() as connection:
            assert await connection.fetchval("SELECT 1") == 1
            proxy.silent = True
        assert "Closed a connection that could not be reset" in caplog.text
        proxy.silent = False
        assert await fetch(pool) == 1


# The pool.


async def test_minsize_connections_are_open_from_the_start(url: str) -> None:
    async with create_pool(url, minsize=4) as pool:
        assert pool.get_idle_size() == 4


async def test_a_pool_reports_its_size_and_its_waiters(url: str) -> None:
    async with create_pool(url, maxsize=2, acquire_timeout=5.0) as pool:
        async with pool.connection():
            assert (pool.size - pool.freesize, pool.waiting) == (1, 0)
            async with pool.connection():
                late = asyncio.create_task(fetch(pool))
                await asyncio.sleep(0)
                assert (pool.size, pool.freesize, pool.waiting) == (2, 0, 1)
        assert await late == 1
        assert (pool.size, pool.freesize, pool.waiting) == (2, 2, 0)


async def test_a_full_pool_is_pool_exhausted(url: str) -> None:
    async with create_pool(url, maxsize=1, acquire_timeout=2.0) as pool:
        async with pool.connection():
            with pytest.raises(PoolExhausted, match="all 1 connections stayed in use") as caught:
                await fetch(pool)
        assert isinstance(caught.value.__cause__, TimeoutError)
        assert await fetch(pool) == 1


async def test_every_other_task_is_served_when_half_of_200_are_cancelled(url: str) -> None:
    async def work(number: int) -> int:
        async with pool.connection() as connection:
            if number % 4 == 0:
                loop.call_later(0.002, tasks[number].cancel)  # during its statement
                await connection.execute("SELECT pg_sleep(9)")
            await connection.execute("SELECT pg_sleep(0.01)")
            return number

    loop = asyncio.get_running_loop()
    async with create_pool(url, maxsize=5, acquire_timeout=60.0) as pool:
        async with AsyncExitStack() as stack:
            for _ in range(5):
                await stack.enter_async_context(pool.connection())
            tasks = [loop.create_task(work(number)) for number in range(200)]
            await asyncio.sleep(0)  # each of them waits for a connection
        for number in range(2, 200, 4):
            loop.call_later(number * 0.001, tasks[number].cancel)  # mostly while it waits
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert results[1::2] == list(range(1, 200, 2))
        assert all(isinstance(result, asyncio.CancelledError) for result in results[::4])
        async with AsyncExitStack() as stack, asyncio.timeout(60):
            for _ in range(5):
                await stack.enter_async_context(pool.connection())


async def test_a_connect_that_hangs_is_database_unavailable(proxy: Proxy) -> None:
    async with proxy, create_pool(proxy.url, minsize=0, connect_timeout=0.2) as pool:
        proxy.silent = True
        with pytest.raises(DatabaseUnavailable, match=r"no connection: no answer within 0\.2 s"):
            await fetch(pool)


async def test_closing_waits_for_connections_in_use_but_not_forever(
    url: str, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask("SELECT pg_advisory_lock(7)")
    async with create_pool(url) as pool:
        quick, _ = await start_statement(pool, ask, "SELECT 1 FROM pg_advisory_lock(7)")
        asyncio.get_running_loop().call_later(0.2, ask, "SELECT pg_advisory_unlock(7)")
    assert await quick == 1
    monkeypatch.setattr(plugin, "CLOSE_GRACE", 0.1)
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
        monkeypatch.setattr(plugin, "PING_TIMEOUT", PING_TIMEOUT)
        async with pool.connection():
            await ping_fails(PoolExhausted, "no answer to a ping")
        proxy.silent = True
        await ping_fails(DatabaseUnavailable, "no answer to a ping")  # on an open connection
        await ping_fails(DatabaseUnavailable, "no answer to a ping")  # on one that does not open
        await proxy.close()
        await ping_fails(DatabaseUnavailable, "refused|failed")


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
            assert "Starting without PostgreSQL for now: no connection: " in caplog.text
            await proxy.open()
            assert await fetch(pool) == 1


async def test_a_pooler_that_refuses_the_guards_is_used_without_them(
    proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.refuses_guards = True
    async with proxy, create_pool(proxy.url, minsize=3, statement_timeout=0.1) as pool:
        assert pool.get_size() == 3
        assert len(caplog.records) == 1
        assert "set the timeouts with ALTER ROLE instead" in caplog.text
        with pytest.raises(QueryTimeout, match="no answer"):
            await fetch(pool, "SELECT pg_sleep(9)")
        assert await fetch(pool, "SELECT count(*) FROM pg_prepared_statements") == 0


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
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await fetch(other, write)
        read_only("off")
        assert await fetch(pool) == 1


async def test_what_says_nothing_of_the_server_closes_no_other_connection(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def time_out_elsewhere() -> None:
        async with pool.connection() as connection:
            assert await connection.fetchval("SELECT 1") == 1
            await asyncio.sleep(0.3)
            raise TimeoutError("the caller's own")

    async with create_pool(url, minsize=3) as pool:
        pool._silence = 0.2  # seconds, which is less than the connection will be in use
        with pytest.raises(asyncpg.ProtocolViolationError):
            await fetch(pool, PROTOCOL_VIOLATION)
        with pytest.raises(QueryTimeout, match="the caller's own"):
            await time_out_elsewhere()
        assert pool.freesize == 3
        monkeypatch.setattr(plugin, "PING_TIMEOUT", 0.1)
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
