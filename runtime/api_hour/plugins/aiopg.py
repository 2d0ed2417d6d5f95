"""A PostgreSQL pool on aiopg, with guards against aiopg's known traps.

The contract: whatever the server or the network does, a caller gets, within a known time, rows, an
SQL error exactly as psycopg2 raises it, or one of four errors of ``api_hour.exceptions``:

    PoolExhausted          every connection stayed in use for acquire_timeout
    DatabaseUnavailable    no connection could be opened in connect_timeout, or one broke
    QueryTimeout           a statement ran out of time; whether it took effect is unknown
    InvalidArgument        text that PostgreSQL cannot store, such as a NUL character

A CancelledError always means that the caller's own task was cancelled, and nothing else.

A connection goes through these states; ``maxsize`` slots bound those that are opening or in use:

    slot taken -> opening -> in use <-> free -> closed

A task that takes a slot gives it back exactly once: in ``release``, or when opening fails. A new
connection is opened only while none is free, so open connections never outnumber the slots. A
connection is never repaired. It is closed when its statement was abandoned, because the next
statement would read the late answer, and when it is released inside a transaction.

aiopg is dormant (last stable release in 2022), so the traps stay. The guards, each with a test
that fails without it:

* Statement timeout. aiopg turns a statement that the server cancelled into a CancelledError, which
  makes aiohttp drop its client. ``Connection._poll`` raises QueryTimeout instead.
* Orphaned statements. psycopg2 cannot cancel a statement in asynchronous mode: the client closes
  its socket, and the backend works on, holding locks. So every session starts with limits that the
  server enforces (``_postgresql.guards``). PgBouncer refuses such start-up parameters; then the
  limits have to be set on the role, and one warning says so.
* Silent server. A host that vanished sends nothing, not even its own timeout. So the client gives
  up ANSWER_MARGIN seconds after the server should have answered. TCP finds most of them sooner, by
  ``_postgresql.KEEPALIVE``, which also keeps firewalls from forgetting idle connections.
* One dead connection is rarely alone. When one shows that the server or the path to it is gone, or
  that the primary is a standby now, ``release`` closes it and all that are free.
* Lost wake-ups. aiopg wakes the next waiter only when a healthy connection is released; after a
  dead one the waiter sleeps out its whole timeout. It also connects while holding its lock, so that
  one hung connect blocks everybody. ``Pool`` counts slots with a semaphore and connects outside it.
* Killed backends. The event loop may not yet have read that the server closed an idle connection.
  ``Pool._pop_free`` reads what has arrived before it hands a connection out.
* Reused descriptors. libpq opens a socket for each address that it tries. aiopg watches the first
  one even after it is closed; on uvloop that breaks whatever gets the same number next.
  ``Connection._dial`` watches each descriptor only while it waits for it.
* Descriptors above 1,023. After an error aiopg calls select(), which fails for such numbers and
  hides the error. ``Connection._ready`` passes the original error on.
* Blocking name lookup. libpq resolves host names synchronously, on the loop's thread.
  ``Connector._resolve_host`` does it in the loop's resolver threads.
"""

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from socket import SOCK_STREAM
from typing import Any, ClassVar, TypeAlias, cast

import aiopg
import psycopg2
from aiopg.utils import create_completed_future
from psycopg2 import extensions as libpq

from api_hour.exceptions import DatabaseError, DatabaseUnavailable, PoolExhausted, QueryTimeout
from api_hour.plugins import _postgresql
from api_hour.plugins._dsn import number, refuse_shifted_url, unreadable_dsn
from api_hour.plugins._postgresql import (
    ANSWER_MARGIN,
    CLOSE_GRACE,
    GUARDS_REFUSED,
    KEEPALIVE,
    PING_TIMEOUT,
    POOLER_BUSY,
    STARTING_WITHOUT,
    came_late,
    guards,
    invalid_text,
    is_outage,
    refuses_guards,
)

Row: TypeAlias = tuple[Any, ...]
Executor: TypeAlias = _postgresql.Executor[Row]
Transaction: TypeAlias = _postgresql.Transaction[Row]

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

    The server may be down: the pool tries to open ``minsize`` connections at once, logs a warning
    if it cannot, and opens others when they are needed. All timeouts are in seconds:
    ``acquire_timeout`` limits the wait for a connection to become free, ``connect_timeout`` the
    opening of a new one. The server ends a statement after ``statement_timeout`` and a transaction
    that is idle for ``idle_in_transaction_timeout``; 0 means never. A ``connect_timeout`` of the
    DSN replaces the argument, unless it is 0. Raises ConfigError if ``dsn`` is neither a PostgreSQL
    URL nor ``key=value`` pairs.
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


class Pool(_postgresql.Pool[Row], aiopg.Pool):
    """A pool whose size is bounded by a semaphore, which no dead connection can unbalance.

    Placeholders are ``%s``. In a statement with arguments a percent sign is written ``%%``; in one
    without, it means itself. A row is a tuple.
    """

    paramstyle: ClassVar[str] = "format"

    def __init__(
        self, connector: "Connector", minsize: int, maxsize: int, acquire_timeout: float
    ) -> None:
        if maxsize < 1:
            raise ValueError(f"maxsize must be at least 1, got {maxsize}")
        # What aiopg's own pool would connect with; here the connector does that.
        unused: dict[str, Any] = dict.fromkeys(("enable_json", "enable_hstore", "enable_uuid"))
        unused |= {"echo": False, "on_connect": None, "pool_recycle": -1}
        super().__init__("", minsize, maxsize, acquire_timeout, **unused)
        self._connector = connector
        self._slots = asyncio.Semaphore(maxsize)
        self.waiting = 0  # tasks that wait for a connection

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[aiopg.Connection]:
        """Yield a connection of aiopg's own, in autocommit."""
        async with self.acquire() as connection:
            with _translated(connection):
                yield connection

    @asynccontextmanager
    async def cursor(self, **options: Any) -> AsyncIterator[aiopg.Cursor]:  # type: ignore[override]
        """Yield a cursor on a connection of its own; ``options`` are those of aiopg's cursors."""
        async with self.connection() as connection, connection.cursor(**options) as cursor:
            try:
                yield cursor
            finally:
                # After a BEGIN or COMMIT that failed, aiopg believes that a transaction is still
                # open and warns whenever it can. release() asks libpq for the real state.
                cursor._transaction._is_begin = False

    @asynccontextmanager
    async def _session(self) -> AsyncIterator["Connection"]:
        async with self.acquire() as connection:
            yield cast(Connection, connection)

    async def ping(self) -> None:
        """Run ``SELECT 1``; raise one of the three errors in less than a second if it fails."""
        limit = asyncio.timeout(PING_TIMEOUT)
        try:
            async with limit, self.cursor() as cursor:
                await cursor.execute("SELECT 1")
        except TimeoutError as error:
            error_class = PoolExhausted if self._slots.locked() else DatabaseUnavailable
            if error_class is DatabaseUnavailable and not came_late(limit):
                self._close_free()
            raise error_class(f"no answer to a ping within {PING_TIMEOUT} s") from error

    async def warm(self) -> None:
        """Open ``minsize`` connections; log one warning if that fails."""
        try:
            await asyncio.gather(*(self.ping() for _ in range(self.minsize)))
        except DatabaseError as error:
            logger.warning(STARTING_WITHOUT, error)

    async def _acquire(self) -> aiopg.Connection:
        if self._closing:
            raise RuntimeError("Cannot acquire connection after closing pool")
        await self._acquire_slot()
        try:
            connection = self._pop_free() or await self._connector.connect()
        except BaseException:
            self._slots.release()
            raise
        self._used.add(connection)
        return connection

    async def _acquire_slot(self) -> None:
        if not self._slots.locked():
            await self._slots.acquire()  # does not suspend, and needs no timer
            return
        self.waiting += 1
        try:
            async with asyncio.timeout(self._timeout):
                await self._slots.acquire()
        except TimeoutError as error:
            busy = f"all {self.maxsize} connections stayed in use for {self._timeout} s"
            raise PoolExhausted(busy) from error
        finally:
            self.waiting -= 1

    def _pop_free(self) -> aiopg.Connection | None:
        while self._free:
            connection = cast(Connection, self._free.popleft())
            connection.read_pending()
            if not connection.closed:
                return connection
        return None

    def release(self, conn: aiopg.Connection) -> "asyncio.Future[None]":
        """Take a connection back, dead or alive, and let the next waiting task in."""
        if conn in self._used:  # else terminate() has closed it
            self._used.remove(conn)
            self._slots.release()
            self._keep_or_close(conn)
        self._terminated.discard(conn)
        return create_completed_future(self._loop)

    def _keep_or_close(self, connection: aiopg.Connection) -> None:
        if cast(Connection, connection).shows_outage:
            connection.close()
            self._close_free()
        if connection.closed:
            return
        if connection.raw.get_transaction_status() != libpq.TRANSACTION_STATUS_IDLE:
            logger.warning("Closing a connection that was released inside a transaction")
            connection.close()
        elif self._closing:
            connection.close()
        else:
            self._free.append(connection)

    def _close_free(self) -> None:
        while self._free:
            self._free.popleft().close()

    async def wait_closed(self) -> None:
        """Close the free connections, and wait until those in use are released."""
        if self._closed:
            return
        self._close_free()
        for _ in range(cast(int, self.maxsize)):  # every slot given back: nothing is in use
            await self._slots.acquire()
        self._closed = True


class Connector:
    """Opens connections to one DSN, each with the server-side guards where they are accepted."""

    def __init__(
        self,
        dsn: str,
        connect_timeout: float,
        statement_timeout: float,
        idle_in_transaction_timeout: float,
    ) -> None:
        settings = guards(statement_timeout, idle_in_transaction_timeout)
        self._parameters = KEEPALIVE | _parse(dsn)
        for name in KEEPALIVE:
            self._parameters[name] = str(number(name, self._parameters[name]))
        # libpq itself observes it only where it may block.
        limit = number("connect_timeout", self._parameters.pop("connect_timeout", "0"))
        self._target = self._parameters.get("target_session_attrs", "")
        self._guards = " ".join(f"-c {name}={value}" for name, value in settings.items())
        self._connect_timeout = limit or connect_timeout
        self._answer_timeout = statement_timeout + ANSWER_MARGIN if statement_timeout else math.inf

    async def connect(self) -> aiopg.Connection:
        """Open a connection; once a pooler has refused the guards, without them.

        Raises DatabaseUnavailable if there is no connection within ``connect_timeout``.
        """
        tried = self._guards  # another task may find out meanwhile that they are refused
        try:
            return await self._connect_with(tried)
        except DatabaseUnavailable as error:
            if not tried or not refuses_guards(error):
                raise
            connection = await self._connect_with("")
            if self._guards:
                logger.warning(GUARDS_REFUSED, error)
            self._guards = ""
            return connection

    async def _connect_with(self, settings: str) -> aiopg.Connection:
        options = f"{settings} {self._parameters.get('options', '')}".strip()
        try:
            async with asyncio.timeout(self._connect_timeout):
                parameters = self._parameters | await self._resolve_host() | {"options": options}
                connection = await Connection.open(
                    libpq.make_dsn(**parameters), self._answer_timeout
                )
                connection.target = self._target
                return connection
        except (psycopg2.Error, OSError) as error:  # a TimeoutError is an OSError
            reason = _first_line(error) or f"no answer within {self._connect_timeout} s"
            raise DatabaseUnavailable(f"no connection: {reason}") from error

    async def _resolve_host(self) -> dict[str, str]:
        """Return every address of the host as libpq's ``hostaddr``, which it need not look up.

        Empty where there is nothing to look up: a socket folder, or addresses that are given. A
        list of several hosts is left to libpq.
        """
        host = self._parameters.get("host", "")
        if not host or host.startswith("/") or "," in host or "hostaddr" in self._parameters:
            return {}
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=SOCK_STREAM)
        addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
        # libpq wants one host for each address; TLS checks the certificate against it.
        return {"host": ",".join([host] * len(addresses)), "hostaddr": ",".join(addresses)}


class Connection(aiopg.Connection):
    """A connection that watches only open descriptors and raises the three errors.

    ``target`` is the DSN's target_session_attrs. ``shows_outage`` turns true when the server or the
    path to it proves to be gone, so that other connections are suspected, too.
    """

    target = ""
    shows_outage = False

    @classmethod
    async def open(cls, dsn: str, answer_timeout: float) -> "Connection":
        """Connect to ``dsn``; ``answer_timeout`` seconds are a statement's limit by default."""
        connection = cls(dsn, answer_timeout, enable_hstore=False, cursor_factory=Psycopg2Cursor)
        try:
            await connection._dial()
        except BaseException:
            connection._waiter = None  # nobody awaits it: its error would be logged as unretrieved
            connection._close()
            raise
        await connection._connect()
        return connection

    async def _dial(self) -> None:
        """Drive libpq until it is connected, on as many descriptors as it opens meanwhile."""
        self._loop.remove_reader(cast(int, self._fileno))  # aiopg added it on construction
        self._fileno = None
        while (wanted := self._conn.poll()) != libpq.POLL_OK:
            await _wait_for_descriptor(self._conn.fileno(), wanted)
        self._fileno = descriptor = self._conn.fileno()
        self._loop.add_reader(descriptor, self._ready, self._weakref)

    async def query(self, statement: str, arguments: tuple[object, ...], limit: int) -> list[Row]:
        """Run a statement; return its rows."""
        cursor = await self._run(statement, arguments)
        if cursor.description is None:
            return []
        with _translated(self):
            return cast(list[Row], cursor.fetchmany(limit) if limit else cursor.fetchall())

    async def command(self, statement: str, arguments: tuple[object, ...]) -> str:
        """Run a statement; return its command tag."""
        return cast(str, (await self._run(statement, arguments)).statusmessage)

    async def _run(self, statement: str, arguments: tuple[object, ...]) -> libpq.cursor:
        waiter = self._create_waiter("execute")
        try:
            with _translated(self):
                cursor = self._conn.cursor()
                cursor.execute(statement, arguments or None)  # psycopg2 reads % if there are any
        except BaseException:
            self._waiter = None
            raise
        await self._poll(waiter, self._timeout)
        return cursor

    def read_pending(self) -> None:
        """Read what arrived while the connection was idle, so that ``closed`` is up to date.

        A server that shuts down first sends an error and then closes; libpq reports one of the two
        each time it is asked.
        """
        for _ in range(2):
            self._ready(self._weakref)

    def _check_open(self) -> None:
        if self.closed:
            raise DatabaseUnavailable("the connection to PostgreSQL was lost")

    async def _cursor_impl(self, *args: Any, **options: Any) -> Any:
        self._check_open()
        return await super()._cursor_impl(*args, **options)

    def _create_waiter(self, func_name: str) -> "asyncio.Future[None]":
        self._check_open()
        return super()._create_waiter(func_name)

    async def _poll(self, waiter: "asyncio.Future[None]", timeout: float) -> None:
        """Wait for an answer at most ``timeout`` seconds, and close if it is given up."""
        self._ready(self._weakref)
        try:
            with _translated(self):
                async with asyncio.timeout(timeout):
                    await waiter
        except asyncio.CancelledError:
            self._close()
            raise
        except TimeoutError as error:
            self.shows_outage = timeout >= self._timeout  # not one of the statement's own
            self._close()
            raise QueryTimeout(f"no answer to a statement within {timeout} s") from error
        finally:
            self._waiter = None

    @staticmethod
    def _ready(weak_self: Any) -> None:
        """Read what has arrived; called by the loop, and before each wait."""
        try:
            aiopg.Connection._ready(weak_self)
        except ValueError as error:
            # From aiopg's select() on a descriptor above 1,023, while it handled an error of
            # libpq: that one is the context. Do what aiopg would have done next.
            connection = weak_self()
            if connection._waiter is not None and not connection._waiter.done():
                connection._waiter.set_exception(error.__context__)
            if connection.closed:
                connection._close()

    def _close(self) -> None:
        super()._close()
        # The kernel may give the number to another connection, which a second close would unwatch.
        self._fileno = None


class Psycopg2Cursor(libpq.cursor):  # type: ignore[misc]
    """A cursor of psycopg2 that names an argument whose text PostgreSQL cannot store."""

    def execute(self, query: Any, vars: Any = None) -> None:
        """Send a statement; raises InvalidArgument."""
        try:
            super().execute(query, vars)
        except ValueError as error:
            if invalid := invalid_text(error, None):
                raise invalid from error
            raise


@contextmanager
def _translated(connection: aiopg.Connection) -> Iterator[None]:
    """Raise the DatabaseError that an error stands for, unless it is the statement's."""
    try:
        yield
    except libpq.QueryCanceledError as error:
        raise QueryTimeout(_first_line(error)) from error
    except psycopg2.Error as error:
        if invalid := invalid_text(error, error.pgcode):
            raise invalid from error
        own = cast(Connection, connection)
        outage = is_outage(error.pgcode, own.target)
        if outage or connection.closed:
            # psycopg2 gives no code for what PgBouncer says before it closes.
            lost = error.pgcode is None and POOLER_BUSY not in str(error)
            own.shows_outage = own.shows_outage or outage or lost
            raise DatabaseUnavailable(_first_line(error)) from error
        raise


async def _wait_for_descriptor(descriptor: int, wanted: int) -> None:
    """Wait until ``descriptor`` can be read or written, whichever libpq wants, then unwatch it."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    watch = loop.add_reader if wanted == libpq.POLL_READ else loop.add_writer
    watch(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
        loop.remove_writer(descriptor)


def _parse(dsn: str) -> dict[str, str]:
    refuse_shifted_url(dsn)
    try:
        return cast(dict[str, str], libpq.parse_dsn(dsn))
    except psycopg2.ProgrammingError:
        raise unreadable_dsn() from None  # psycopg2's message repeats the DSN and its password


def _first_line(error: Exception) -> str:
    return " ".join(str(error).partition("\n")[0].split())
