"""The aiopg pool with its guards: whatever the server does, a caller gets, in time, rows, one of
three errors of api_hour.exceptions, or an SQL mistake as psycopg2 tells it.
"""

import asyncio
import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from socket import SOCK_STREAM
from typing import Any, cast

import aiopg
import psycopg2
from aiopg.utils import create_completed_future
from psycopg2 import extensions as libpq

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
        self, connector: "Connector", minsize: int, maxsize: int, acquire_timeout: float
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
            logger.warning(STARTING_WITHOUT, error)

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
        if connection.raw.get_transaction_status() != libpq.TRANSACTION_STATUS_IDLE:
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


class Connector:
    """Make connections that the server guards by its own timeouts; all times are in seconds."""

    def __init__(
        self,
        dsn: str,
        connect_timeout: float,
        statement_timeout: float,
        idle_in_transaction_timeout: float,
    ) -> None:
        settings = guards(statement_timeout, idle_in_transaction_timeout)
        self._parameters = _parse(dsn)
        self._guards = " ".join(f"-c {name}={value}" for name, value in settings.items())
        self._timeout = connect_timeout
        self._patience = statement_timeout + ANSWER_MARGIN if statement_timeout else math.inf

    async def connect(self) -> aiopg.Connection:
        """Connect; without the guards from when a pooler such as PgBouncer refuses them."""
        tried = self._guards
        try:
            return await self._attempt(tried)
        except DatabaseUnavailable as error:
            if not tried or not refuses_guards(error):
                raise
            connection = await self._attempt("")
            if self._guards:
                logger.warning(GUARDS_REFUSED, error)
            self._guards = ""
            return connection

    async def _attempt(self, guards: str) -> aiopg.Connection:
        options = f"{guards} {self._parameters.get('options', '')}".strip()
        try:
            async with asyncio.timeout(self._timeout):
                parameters = self._parameters | await self._addresses() | {"options": options}
                return await Connection.open(libpq.make_dsn(**parameters), self._patience)
        except (psycopg2.Error, OSError) as error:
            reason = _first_line(error) or f"no answer in {self._timeout} s"
            raise DatabaseUnavailable(f"no connection: {reason}") from error

    async def _addresses(self) -> dict[str, str]:
        """Look the host up off the loop; libpq would do so on it, and stop every other task."""
        host = self._parameters.get("host", "")
        if not host or host.startswith("/") or "," in host or "hostaddr" in self._parameters:
            return {}
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=SOCK_STREAM)
        addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
        return {"host": ",".join([host] * len(addresses)), "hostaddr": ",".join(addresses)}


class Connection(aiopg.Connection):
    """Connect by way of any address, on any loop; tell by our errors how a statement ended."""

    @classmethod
    async def open(cls, dsn: str, patience: float) -> "Connection":
        """Connect to ``dsn``; a statement may take ``patience`` seconds if it does not say else."""
        connection = cls(dsn, patience, enable_hstore=False)
        try:
            await connection._dial()
        except BaseException:
            connection._waiter = None
            connection._close()
            raise
        await connection._connect()
        return connection

    async def _dial(self) -> None:
        """Watch one descriptor after the other: libpq opens one for each address that it tries.

        aiopg watches the first one, and longer than it is open: on uvloop that spoils its number.
        """
        self._loop.remove_reader(cast(int, self._fileno))
        self._fileno = None
        while (wanted := self._conn.poll()) != libpq.POLL_OK:
            await _until_ready(self._conn.fileno(), wanted)
        self._fileno = descriptor = self._conn.fileno()
        self._loop.add_reader(descriptor, self._ready, self._weakref)

    def refresh(self) -> None:
        """Take in what the server said since the last statement: that it has gone, maybe."""
        for _ in "its last words", "its end":
            self._ready(self._weakref)

    def _check(self) -> None:
        if self.closed:
            raise DatabaseUnavailable("the connection to PostgreSQL was lost")

    async def _cursor_impl(self, *args: Any, **options: Any) -> Any:
        self._check()
        return await super()._cursor_impl(*args, **options)

    def _create_waiter(self, func_name: str) -> "asyncio.Future[None]":
        self._check()
        return super()._create_waiter(func_name)

    async def _poll(self, waiter: "asyncio.Future[None]", timeout: float) -> None:
        """Wait for an answer; aiopg would turn a statement out of time into a cancelled task."""
        self._ready(self._weakref)
        try:
            async with asyncio.timeout(timeout):
                await waiter
        except asyncio.CancelledError:
            self._close()
            raise
        except TimeoutError as error:
            self._close()
            raise QueryTimeout(f"no answer to a statement in {timeout} s") from error
        except psycopg2.Error as error:
            translate(error, self)
            raise
        finally:
            self._waiter = None

    @staticmethod
    def _ready(weak_self: Any) -> None:
        """Read what came; on an error aiopg asks select(), which knows 1,024 descriptors only."""
        try:
            aiopg.Connection._ready(weak_self)
        except ValueError as error:
            connection = weak_self()
            if connection._waiter is not None and not connection._waiter.done():
                connection._waiter.set_exception(error.__context__)
            if connection.closed:
                connection._close()

    def _close(self) -> None:
        super()._close()
        self._fileno = None  # the number may be another connection's soon


def translate(error: psycopg2.Error, connection: aiopg.Connection) -> None:
    """Raise our error if ``error`` is no fault of the statement."""
    if isinstance(error, libpq.QueryCanceledError):
        raise QueryTimeout(_first_line(error)) from error
    if connection.closed:
        raise DatabaseUnavailable(_first_line(error)) from error


async def _until_ready(descriptor: int, wanted: int) -> None:
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    watch = loop.add_reader if wanted == libpq.POLL_READ else loop.add_writer
    watch(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
        loop.remove_writer(descriptor)


def _parse(dsn: str) -> dict[str, str]:
    try:
        return cast(dict[str, str], libpq.parse_dsn(dsn))
    except psycopg2.ProgrammingError:
        raise unreadable_dsn() from None  # psycopg2's words repeat the DSN and its password


def _first_line(error: Exception) -> str:
    return " ".join(str(error).partition("\n")[0].split())
