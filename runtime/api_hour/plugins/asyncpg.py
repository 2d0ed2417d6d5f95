"""A PostgreSQL pool on asyncpg that reports outages by the same three errors as ``aiopg``.

asyncpg needs fewer guards: it cancels a statement on the server when its task is cancelled, hands
out no dead connection, and connects without holding up others. What is added here: the server-side
limits of a session (``_postgresql.guards``), connecting only on demand so that the daemon starts
while the database is down, and the translation of errors. An error means that the database is
unavailable if the connection is closed afterwards; otherwise the statement is at fault, and the
caller gets asyncpg's own error.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from api_hour.exceptions import DatabaseError, DatabaseUnavailable, PoolExhausted, QueryTimeout
from api_hour.plugins._postgresql import (
    ANSWER_MARGIN,
    CLOSE_GRACE,
    GUARDS_REFUSED,
    PING_TIMEOUT,
    STARTING_WITHOUT,
    guards,
    refuses_guards,
    unreadable_dsn,
)

# InternalClientError: a statement was sent after the server's last message, before it closed.
ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

logger = logging.getLogger(__name__)


@asynccontextmanager
async def create_pool(
    dsn: str,
    *,
    minsize: int = 1,
    maxsize: int = 10,
    acquire_timeout: float = 3.0,
    connect_timeout: float = 2.0,
    statement_timeout: float = 5.0,
    idle_in_transaction_timeout: float = 10.0,
    statement_cache_size: int = 100,
) -> AsyncIterator["Pool"]:
    """Yield a pool of at most ``maxsize`` connections to PostgreSQL 14 or newer, then close it.

    The arguments mean what they mean for ``api_hour.plugins.aiopg.create_pool``.
    ``statement_cache_size`` is the number of prepared statements that a connection keeps. Set it to
    0 behind PgBouncer in transaction mode, unless PgBouncer tracks prepared statements
    (``max_prepared_statements``). Raises ConfigError if ``dsn`` is not a PostgreSQL URL.
    """
    pool = Pool(
        dsn,
        maxsize,
        acquire_timeout,
        timeout=connect_timeout,
        command_timeout=statement_timeout + ANSWER_MARGIN if statement_timeout else None,
        statement_cache_size=statement_cache_size,
        server_settings=guards(statement_timeout, idle_in_transaction_timeout),
    )
    try:
        await pool.warm(minsize)
        yield pool
    finally:
        try:
            async with asyncio.timeout(CLOSE_GRACE):
                await pool.close()
        except (*ERRORS, OSError) as error:
            logger.warning("Terminated connections to PostgreSQL: %s", error or "still in use")


class Pool(asyncpg.Pool):  # type: ignore[misc]
    """A pool that opens connections on demand and translates what goes wrong with them."""

    def __init__(self, dsn: str, maxsize: int, acquire_timeout: float, **options: Any) -> None:
        super().__init__(
            dsn,
            min_size=0,
            max_size=maxsize,
            max_queries=50_000,
            max_inactive_connection_lifetime=300.0,
            connect=self._connect_guarded,
            loop=asyncio.get_running_loop(),
            connection_class=asyncpg.Connection,
            record_class=asyncpg.Record,
            **options,
        )
        self._acquire_timeout = acquire_timeout
        self._behind_pooler = False
        self.waiting = 0  # tasks that wait for a connection

    @property
    def size(self) -> int:
        """The number of open connections."""
        return int(self.get_size())

    @property
    def freesize(self) -> int:
        """The number of idle connections."""
        return int(self.get_idle_size())

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """Yield a connection of its own; a TimeoutError raised inside becomes a QueryTimeout."""
        connection = await self._acquire_in_time()
        try:
            yield connection
        except (asyncpg.QueryCanceledError, TimeoutError) as error:
            raise QueryTimeout(str(error) or "no answer to a statement in time") from error
        except ERRORS as error:
            if _is_closed(connection):
                raise DatabaseUnavailable(str(error)) from error
            raise
        finally:
            await self._reset_and_release(connection)

    async def ping(self) -> None:
        """Run ``SELECT 1``; raise one of the three errors in less than a second if it fails."""
        try:
            async with asyncio.timeout(PING_TIMEOUT), self.connection() as connection:
                await _select_1(connection)
        except TimeoutError as error:
            busy = self.get_size() == self.get_max_size() and not self.get_idle_size()
            error_class = PoolExhausted if busy else DatabaseUnavailable
            raise error_class(f"no answer to a ping within {PING_TIMEOUT} s") from error

    async def warm(self, size: int) -> None:
        """Open ``size`` connections; log one warning if that fails."""
        await self
        try:
            await asyncio.gather(*(self.ping() for _ in range(size)))
        except DatabaseError as error:
            logger.warning(STARTING_WITHOUT, error)

    async def _acquire_in_time(self) -> asyncpg.Connection:
        self.waiting += 1
        try:
            return await self.acquire(timeout=self._acquire_timeout)
        except TimeoutError as error:
            busy = f"all {self.get_max_size()} connections stayed in use"
            raise PoolExhausted(f"{busy} for {self._acquire_timeout} s") from error
        finally:
            self.waiting -= 1

    async def _reset_and_release(self, connection: asyncpg.Connection) -> None:
        try:
            await self.release(connection)
        except (*ERRORS, OSError) as error:
            # The caller has its result, so this must not fail it; asyncpg closed the connection.
            logger.warning("Closed a connection that could not be reset: %s", error)

    async def _connect_guarded(self, dsn: str, **options: Any) -> asyncpg.Connection:
        """Connect; once a pooler such as PgBouncer has refused the guards, without them."""
        without_guards = self._behind_pooler  # another task may find out while this one connects
        if without_guards:
            options |= {"server_settings": None, "statement_cache_size": 0}
        try:
            return await asyncpg.connect(dsn, **options)
        except ValueError:
            raise unreadable_dsn() from None  # asyncpg's message may repeat a part of the password
        except (*ERRORS, OSError) as error:
            if without_guards or not refuses_guards(error):
                reason = str(error) or f"no answer within {options['timeout']} s"
                raise DatabaseUnavailable(f"no connection: {reason}") from error
            if not self._behind_pooler:
                logger.warning(GUARDS_REFUSED, error)
            self._behind_pooler = True
        return await self._connect_guarded(dsn, **options)


async def _select_1(connection: asyncpg.Connection) -> None:
    try:
        await connection.execute("SELECT 1")
    except asyncio.CancelledError:
        connection.terminate()  # otherwise its release waits for an answer from a dead server
        raise


def _is_closed(connection: asyncpg.Connection) -> bool:
    try:
        return bool(connection.is_closed())
    except asyncpg.InterfaceError:
        return True  # the pool has already dropped it
