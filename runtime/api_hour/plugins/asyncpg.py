"""The asyncpg pool, which tells of an outage by the same three errors as postgresql beside it."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from api_hour import exceptions
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

# The third one comes between the server's last words and its end.
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
    ``statement_cache_size`` is the number of prepared statements a connection keeps; make it 0
    behind PgBouncer in transaction mode, unless that tracks them (``max_prepared_statements``).
    Raise ConfigError when ``dsn`` is not a PostgreSQL URL.
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
            logger.warning("Cut connections to PostgreSQL: %s", error or "still in use")


class Pool(asyncpg.Pool):  # type: ignore[misc]
    """Open connections when they are needed, and translate what goes wrong with them."""

    def __init__(self, dsn: str, maxsize: int, acquire_timeout: float, **options: Any) -> None:
        super().__init__(
            dsn,
            min_size=0,
            max_size=maxsize,
            max_queries=50_000,
            max_inactive_connection_lifetime=300.0,
            connect=self._open,
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
        """Return how many connections are open."""
        return int(self.get_size())

    @property
    def freesize(self) -> int:
        """Return how many connections nobody uses."""
        return int(self.get_idle_size())

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """Yield a connection of one's own; a TimeoutError within is a QueryTimeout."""
        connection = await self._take()
        try:
            yield connection
        except (asyncpg.QueryCanceledError, TimeoutError) as error:
            reason = str(error) or "no answer to a statement in time"
            raise exceptions.QueryTimeout(reason) from error
        except ERRORS as error:
            if _lost(connection):
                raise exceptions.DatabaseUnavailable(str(error)) from error
            raise
        finally:
            await self._give_back(connection)

    async def ping(self) -> None:
        """Ask the server for an answer; raise one of the three errors in less than a second."""
        try:
            async with asyncio.timeout(PING_TIMEOUT), self.connection() as connection:
                await _answer(connection)
        except TimeoutError as error:
            busy = self.get_size() == self.get_max_size() and not self.get_idle_size()
            reason = exceptions.PoolExhausted if busy else exceptions.DatabaseUnavailable
            raise reason(f"no answer to a ping in {PING_TIMEOUT} s") from error

    async def warm(self, size: int) -> None:
        """Open ``size`` connections, or log once why there are none."""
        await self
        try:
            await asyncio.gather(*(self.ping() for _ in range(size)))
        except exceptions.DatabaseError as error:
            logger.warning(STARTING_WITHOUT, error)

    async def _take(self) -> asyncpg.Connection:
        self.waiting += 1
        try:
            return await self.acquire(timeout=self._acquire_timeout)
        except TimeoutError as error:
            busy = f"none of {self.get_max_size()} connections came free"
            raise exceptions.PoolExhausted(f"{busy} in {self._acquire_timeout} s") from error
        finally:
            self.waiting -= 1

    async def _give_back(self, connection: asyncpg.Connection) -> None:
        try:
            await self.release(connection)
        except (*ERRORS, OSError) as error:
            # What the caller asked for is done; asyncpg has closed the connection.
            logger.warning("Closed a connection that could not be reset: %s", error)

    async def _open(self, dsn: str, **options: Any) -> asyncpg.Connection:
        """Connect; without what a pooler such as PgBouncer refuses, once it did so."""
        plain = self._behind_pooler
        if plain:
            options |= {"server_settings": None, "statement_cache_size": 0}
        try:
            return await asyncpg.connect(dsn, **options)
        except ValueError:
            raise unreadable_dsn() from None  # asyncpg's words may repeat a part of the password
        except (*ERRORS, OSError) as error:
            if plain or not refuses_guards(error):
                reason = str(error) or f"no answer in {options['timeout']} s"
                raise exceptions.DatabaseUnavailable(f"no connection: {reason}") from error
            if not self._behind_pooler:
                logger.warning(GUARDS_REFUSED, error)
            self._behind_pooler = True
        return await self._open(dsn, **options)


async def _answer(connection: asyncpg.Connection) -> None:
    try:
        await connection.execute("SELECT 1")
    except asyncio.CancelledError:
        connection.terminate()  # else its release waits for the answer of a dead server
        raise


def _lost(connection: asyncpg.Connection) -> bool:
    try:
        return bool(connection.is_closed())
    except asyncpg.InterfaceError:
        return True  # the pool has dropped it already
