"""How one aiopg connection is made, waited for and lost; the pool beside it counts them."""

import asyncio
import logging
import math
from socket import SOCK_STREAM
from typing import Any, cast

import aiopg
import psycopg2
from psycopg2 import extensions as libpq

from api_hour.exceptions import ConfigError, DatabaseUnavailable, QueryTimeout

ANSWER_MARGIN = 1.0  # seconds the server may be late in ending a statement
CLIENT_CHECK = 1.0  # seconds between the server's looks whether a statement's client is there

logger = logging.getLogger(__name__)


class Connector:
    """Make connections that the server guards by its own timeouts; all times are in seconds."""

    def __init__(
        self,
        dsn: str,
        connect_timeout: float,
        statement_timeout: float,
        idle_in_transaction_timeout: float,
    ) -> None:
        timeouts = {
            "statement_timeout": statement_timeout,
            "idle_in_transaction_session_timeout": idle_in_transaction_timeout,
            "client_connection_check_interval": CLIENT_CHECK,
        }
        self._parameters = _parse(dsn)
        self._guards = " ".join(f"-c {name}={round(t * 1000)}" for name, t in timeouts.items())
        self._timeout = connect_timeout
        self._patience = statement_timeout + ANSWER_MARGIN if statement_timeout else math.inf

    async def connect(self) -> aiopg.Connection:
        """Connect; without the guards from when a pooler such as PgBouncer refuses them."""
        guards = self._guards
        try:
            return await self._attempt(guards)
        except DatabaseUnavailable as error:
            if not guards or "startup parameter" not in str(error):
                raise
            connection = await self._attempt("")
            if self._guards:
                logger.warning("%s: set the timeouts by ALTER ROLE instead", error)
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
        # Not in psycopg2's words: they repeat the DSN, and its password with it.
        form = "postgresql://USER:PASSWORD@HOST:PORT/NAME, special characters as %XX"
        raise ConfigError(f"the PostgreSQL DSN cannot be read: write {form}") from None


def _first_line(error: Exception) -> str:
    return " ".join(str(error).partition("\n")[0].split())
