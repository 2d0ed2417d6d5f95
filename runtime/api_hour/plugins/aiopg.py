"""The aiopg pool with its guards: whatever the server does, a caller gets, in time, rows, one of
three errors of api_hour.exceptions, or an SQL mistake as psycopg2 tells it.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import aiopg
import psycopg2
from aiopg.utils import create_completed_future
from psycopg2.extensions import TRANSACTION_STATUS_IDLE

from api_hour.exceptions import DatabaseError, DatabaseUnavailable, PoolExhausted
from api_hour.plugins._connector import Connection, Connector, translate

CLOSE_GRACE = 5.0  # seconds to give connections back to a closing pool
PING_TIMEOUT = 0.9  # seconds

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
) -> AsyncIterator["Pool"]:
    """Yield a pool of at most ``maxsize`` connections to PostgreSQL 14 or newer, then close it.

    The server may be away: ``minsize`` connections are opened now if that can be done, others when
    they are needed. Times are in seconds: ``acquire_timeout`` bounds the wait for a connection to
    come free, ``connect_timeout`` the making of a new one. The server ends a statement after
    ``statement_timeout`` and a transaction that idles after ``idle_in_transaction_timeout``; 0
    means never. Raise ConfigError when ``dsn`` is not a PostgreSQL URL or ``key=value`` pairs.
    """
    connector = Connector(dsn, connect_timeout, statement_timeout, idle_in_transaction_timeout)
    pool = Pool(connector, minsize, maxsize, acquire_timeout)
    try:
        await pool.warm()
        yield pool
    finally:
        pool.close()
        try:
            async with asyncio.timeout(CLOSE_GRACE):
                await pool.wait_closed()
        except TimeoutError:
            logger.warning("Closing %s connections that are still in use", len(pool._used))
            pool.terminate()


class Pool(aiopg.Pool):
    """Count connections by a semaphore, which no cancelled task and no dead connection upsets.

    aiopg's condition loses the wake-up when a connection comes back closed, and stays locked while
    a connection is made: one that hangs would keep everybody from the free ones.
    """

    def __init__(
        self, connector: Connector, minsize: int, maxsize: int, acquire_timeout: float
    ) -> None:
        if maxsize < 1:
            raise ValueError(f"maxsize must be at least 1, got {maxsize}")
        # What aiopg would connect by; the connector does it here.
        unused: dict[str, Any] = dict.fromkeys(("enable_json", "enable_hstore", "enable_uuid"))
        unused |= {"echo": False, "on_connect": None, "pool_recycle": -1}
        super().__init__("", minsize, maxsize, acquire_timeout, **unused)
        self._connector = connector
        self._slots = asyncio.Semaphore(maxsize)
        self.waiting = 0  # tasks that wait for a connection

    @asynccontextmanager
    async def cursor(self, **options: Any) -> AsyncIterator[aiopg.Cursor]:  # type: ignore[override]
        """Yield a cursor on a connection of its own; ``options`` are those of aiopg's cursors."""
        async with self.acquire() as connection, connection.cursor(**options) as cursor:
            try:
                yield cursor
            except psycopg2.Error as error:
                translate(error, connection)
                raise
            finally:
                # aiopg warns for ever of a BEGIN or COMMIT that failed; release() knows the truth.
                cursor._transaction._is_begin = False

    async def ping(self) -> None:
        """Ask the server for an answer; raise one of the three errors in less than a second."""
        try:
            async with asyncio.timeout(PING_TIMEOUT), self.cursor() as cursor:
                await cursor.execute("SELECT 1")
        except TimeoutError as error:
            reason = PoolExhausted if self._slots.locked() else DatabaseUnavailable
            raise reason(f"no answer to a ping in {PING_TIMEOUT} s") from error

    async def warm(self) -> None:
        """Open ``minsize`` connections, or log once why there are none."""
        try:
            await asyncio.gather(*(self.ping() for _ in range(self.minsize)))
        except DatabaseError as error:
            logger.warning("Going on without PostgreSQL for now: %s", error)

    async def _acquire(self) -> aiopg.Connection:
        if self._closing:
            raise RuntimeError("Cannot acquire connection after closing pool")
        await self._take_slot()
        try:
            connection = self._take_free() or await self._connector.connect()
        except BaseException:
            self._slots.release()
            raise
        self._used.add(connection)
        return connection

    async def _take_slot(self) -> None:
        if not self._slots.locked():
            await self._slots.acquire()  # at once
            return
        self.waiting += 1
        try:
            async with asyncio.timeout(self._timeout):
                await self._slots.acquire()
        except TimeoutError as error:
            busy = f"none of {self.maxsize} connections came free in {self._timeout} s"
            raise PoolExhausted(busy) from error
        finally:
            self.waiting -= 1

    def _take_free(self) -> aiopg.Connection | None:
        while self._free:
            connection = cast(Connection, self._free.popleft())
            connection.refresh()
            if not connection.closed:
                return connection
        return None

    def release(self, conn: aiopg.Connection) -> "asyncio.Future[None]":
        """Take a connection back; a closed one, too, lets the next task in."""
        if conn in self._used:
            self._used.remove(conn)
            self._slots.release()
            self._keep(conn)
        self._terminated.discard(conn)
        return create_completed_future(self._loop)

    def _keep(self, connection: aiopg.Connection) -> None:
        if connection.closed:
            return
        if connection.raw.get_transaction_status() != TRANSACTION_STATUS_IDLE:
            logger.warning("Closing a connection that came back in the middle of a transaction")
            connection.close()
        elif self._closing:
            connection.close()
        else:
            self._free.append(connection)

    async def wait_closed(self) -> None:
        """Close the free connections, and wait until those in use are back."""
        if self._closed:
            return
        while self._free:
            self._free.popleft().close()
        for _ in range(cast(int, self.maxsize)):
            await self._slots.acquire()
        self._closed = True
