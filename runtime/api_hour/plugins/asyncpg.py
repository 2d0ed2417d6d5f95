"""A PostgreSQL pool on asyncpg that reports outages by the same errors as ``aiopg``.

asyncpg needs fewer guards: it cancels a statement on the server when its task is cancelled, hands
out no dead connection, and connects without holding up others. What is added here: the server-side
limits of a session (``_postgresql.guards``), connecting only on demand so that the daemon starts
while the database is down, and the translation of errors. An error means that the database is
unavailable if the connection is closed afterwards; otherwise the statement is at fault, and the
caller gets asyncpg's own error. When one connection shows that the server or the path to it is
gone, or that the primary is a standby now, the idle ones are closed as well.

A DSN is libpq's language, of which asyncpg knows a part, and sends the server the rest: which then
refuses every connection. So ``_read_dsn`` makes each parameter of libpq act, ignores it with one
warning where nothing is lost, or refuses to start. Other parameters are settings of the session.
"""

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, ClassVar, NamedTuple, TypeAlias, cast
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import asyncpg

from api_hour.exceptions import (
    ConfigError,
    DatabaseError,
    DatabaseUnavailable,
    PoolExhausted,
    QueryTimeout,
)
from api_hour.plugins import _postgresql
from api_hour.plugins._dsn import number, refuse_shifted_url, unreadable_dsn
from api_hour.plugins._postgresql import (
    ANSWER_MARGIN,
    CLOSE_GRACE,
    GUARDS_REFUSED,
    KEEPALIVE,
    PING_TIMEOUT,
    STARTING_WITHOUT,
    came_late,
    guards,
    invalid_text,
    is_outage,
    refuses_guards,
)

Row: TypeAlias = asyncpg.Record
Executor: TypeAlias = _postgresql.Executor[Row]
Transaction: TypeAlias = _postgresql.Transaction[Row]

# InternalClientError: a statement was sent after the server's last message, before it closed.
ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

# Parameters of libpq that asyncpg does not know.
WITHOUT_EFFECT = {
    "gssdelegation",
    "load_balance_hosts",
    "sslcompression",
    "sslkeylogfile",
    "sslsni",
}
WITHOUT_EFFECT |= {"channel_binding", "max_protocol_version", "min_protocol_version"}
HARMLESS_VALUES = {  # others are refused
    "client_encoding": {"auto", "utf8", "utf-8", "unicode"},
    "gssencmode": {"allow", "disable", "prefer"},
    "replication": {"0", "false", "no", "off"},
    "sslcertmode": {"allow"},
}
REFUSED = {"hostaddr", "require_auth", "requirepeer", "requiressl", "servicefile", "sslcrldir"}
REFUSED |= {"oauth_client_id", "oauth_client_secret", "oauth_issuer", "oauth_scope"}
REFUSED |= {"scram_client_key", "scram_server_key"}
FILES = "passfile", "sslcert", "sslcrl", "sslkey", "sslrootcert"
CHOICES = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "sslnegotiation": ("postgres", "direct"),
    "target_session_attrs": (
        *("any", "primary", "standby", "read-write", "read-only", "prefer-standby"),
    ),
}
SOCKET_OPTIONS = {
    "keepalives": (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
    "keepalives_idle": (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPIDLE", None)),
    "keepalives_interval": (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPINTVL", None)),
    "keepalives_count": (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPCNT", None)),
    "tcp_user_timeout": (socket.IPPROTO_TCP, getattr(socket, "TCP_USER_TIMEOUT", None)),
}
REFUSED_SETTINGS = asyncpg.UndefinedObjectError, asyncpg.CantChangeRuntimeParamError
IGNORED = "asyncpg does not know these parameters of the PostgreSQL DSN, which are ignored: %s"

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
    (``max_prepared_statements``). Raises ConfigError if ``dsn`` is not a PostgreSQL URL, or has
    parameters that neither act nor can be ignored.
    """
    read = _read_dsn(dsn)
    pool = Pool(
        read,
        maxsize,
        acquire_timeout,
        timeout=read.connect_timeout or connect_timeout,
        ssl=read.tls,
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


class Pool(_postgresql.Pool[Row], asyncpg.Pool):  # type: ignore[misc]
    """A pool that opens connections on demand and translates what goes wrong with them.

    Placeholders are ``$1``, ``$2``. A row is an ``asyncpg.Record``.
    """

    paramstyle: ClassVar[str] = "numeric_dollar"

    def __init__(self, dsn: "_DSN", maxsize: int, acquire_timeout: float, **options: Any) -> None:
        super().__init__(
            dsn.url,
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
        self._read_dsn = dsn
        self._acquire_timeout = acquire_timeout
        self._silence = options["command_timeout"]  # seconds after which the server is silent
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
        """Yield a connection of asyncpg's own, in autocommit.

        A TimeoutError raised inside becomes a QueryTimeout.
        """
        async with self._held() as connection:
            with self._translated(connection):
                yield connection

    @asynccontextmanager
    async def _session(self) -> AsyncIterator["Session"]:
        async with self._held() as connection:
            yield Session(self, connection)

    @asynccontextmanager
    async def _held(self) -> AsyncIterator[asyncpg.Connection]:
        connection = await self._acquire_in_time()
        try:
            yield connection
        finally:
            await self._reset_and_release(connection)

    @contextmanager
    def _translated(self, connection: asyncpg.Connection) -> Iterator[None]:
        """Raise the DatabaseError that an error stands for, unless it is the statement's."""
        started = self._loop.time()
        try:
            yield
        except asyncpg.QueryCanceledError as error:
            raise QueryTimeout(str(error)) from error
        except TimeoutError as error:
            late = self._silence and self._loop.time() - started >= self._silence
            if late and _is_silent(connection):
                self._close_idle(connection)
            raise QueryTimeout(str(error) or "no answer to a statement in time") from error
        except ERRORS as error:
            # What the server says before it closes is the cause of asyncpg's own error.
            said = error.__cause__ if isinstance(error.__cause__, asyncpg.PostgresError) else error
            sqlstate = getattr(said, "sqlstate", None)
            if invalid := invalid_text(error.__cause__ or error, sqlstate):
                raise invalid from error
            outage = is_outage(sqlstate, self._read_dsn.target)
            if outage:
                self._close_idle(connection)
            if outage or _is_closed(connection):
                raise DatabaseUnavailable(str(error)) from error
            raise

    async def ping(self) -> None:
        """Run ``SELECT 1``; raise one of the three errors in less than a second if it fails."""
        limit = asyncio.timeout(PING_TIMEOUT)
        try:
            async with limit, self.connection() as connection:
                await _select_1(connection)
        except TimeoutError as error:
            busy = self.get_size() == self.get_max_size() and not self.get_idle_size()
            error_class = PoolExhausted if busy else DatabaseUnavailable
            if not busy and not came_late(limit):
                self._close_idle()
            raise error_class(f"no answer to a ping within {PING_TIMEOUT} s") from error

    async def warm(self, size: int) -> None:
        """Open ``size`` connections; log one warning if that fails.

        Raises ConfigError if the server refuses a setting of the DSN, which no time will mend.
        """
        await self
        try:
            await asyncio.gather(*(self.ping() for _ in range(size)))
        except DatabaseError as error:
            if isinstance(error.__cause__, REFUSED_SETTINGS):
                raise ConfigError(f"the server refuses the PostgreSQL DSN: {error}") from error
            logger.warning(STARTING_WITHOUT, error)

    def _close_idle(self, connection: asyncpg.Connection | None = None) -> None:
        """Close the idle connections, and one that shows an outage: they are of the same server."""
        if connection is not None and not _is_closed(connection):
            connection.terminate()
        for holder in self._holders:
            if holder._con is not None and holder._in_use is None:
                holder._con.terminate()

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
            await self.release(connection, timeout=ANSWER_MARGIN)
        except (*ERRORS, OSError) as error:
            # The caller has its result, so this must not fail it; asyncpg closed the connection.
            logger.warning("Closed a connection that could not be reset: %s", error)

    async def _connect_guarded(self, dsn: str, **options: Any) -> asyncpg.Connection:
        """Connect; once a pooler such as PgBouncer has refused the guards, without them."""
        without_guards = self._behind_pooler  # another task may find out while this one connects
        if without_guards:
            options |= {"server_settings": None, "statement_cache_size": 0}
        try:
            connection = await asyncpg.connect(dsn, **options)
            try:
                self._read_dsn.set_socket_options(connection)
            except BaseException:  # a value that the system refuses
                connection.terminate()
                raise
            return connection
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


class Session:
    """A connection in use whose every statement raises the errors of ``api_hour.exceptions``."""

    def __init__(self, pool: Pool, connection: asyncpg.Connection) -> None:
        self._pool = pool
        self._connection = connection

    @property
    def closed(self) -> bool:
        """Whether the connection is closed."""
        return _is_closed(self._connection)

    def close(self) -> None:
        """Close the connection without waiting for the server."""
        self._connection.terminate()

    async def query(self, statement: str, arguments: tuple[object, ...], limit: int) -> list[Row]:
        """Run a statement; return its rows, or the first one if there is a limit."""
        with self._pool._translated(self._connection):
            if limit:
                row = await self._connection.fetchrow(statement, *arguments)
                return [] if row is None else [row]
            return cast(list[Row], await self._connection.fetch(statement, *arguments))

    async def command(self, statement: str, arguments: tuple[object, ...]) -> str:
        """Run a statement; return its command tag."""
        with self._pool._translated(self._connection):
            return cast(str, await self._connection.execute(statement, *arguments))


async def _select_1(connection: asyncpg.Connection) -> None:
    try:
        await connection.execute("SELECT 1")
    except asyncio.CancelledError:
        connection.terminate()  # otherwise its release waits for an answer from a dead server
        raise


def _is_silent(connection: asyncpg.Connection) -> bool:
    """Return whether an answer is still missing; else it was not the server that took so long."""
    return _is_closed(connection) or bool(connection._protocol._is_cancelling())


def _is_closed(connection: asyncpg.Connection) -> bool:
    try:
        return bool(connection.is_closed())
    except asyncpg.InterfaceError:
        return True  # the pool has already dropped it


class _DSN(NamedTuple):
    """What ``create_pool`` takes from a DSN by itself, and the rest of it."""

    url: str
    connect_timeout: int  # seconds; 0 means that the DSN does not limit it
    socket_options: dict[str, int]
    tls: ssl.SSLContext | None
    target: str  # target_session_attrs

    def set_socket_options(self, connection: asyncpg.Connection) -> None:
        """Set what libpq would have set on the socket of ``connection``."""
        transport_socket = connection._transport.get_extra_info("socket")
        if transport_socket is None or transport_socket.family == socket.AF_UNIX:
            return
        with socket.socket(fileno=os.dup(transport_socket.fileno())) as same:
            for name, value in self.socket_options.items():
                level, option = SOCKET_OPTIONS[name]
                if option is not None and (value or name == "keepalives"):  # 0: the system's own
                    same.setsockopt(level, option, value)


def _read_dsn(dsn: str) -> _DSN:
    """Return the parts of a DSN; raises ConfigError, which repeats no value of it."""
    refuse_shifted_url(dsn)
    try:
        url = urlsplit(dsn)
        parameters = dict(
            parse_qsl(url.query, keep_blank_values=True, strict_parsing=bool(url.query))
        )
    except ValueError:
        raise unreadable_dsn() from None
    # A "?" or "#" in a password that is not written as %XX: nothing of it may be shown.
    if (
        url.scheme not in ("postgresql", "postgres")
        or url.fragment
        or ("@" in url.query and "@" not in url.netloc)
    ):
        raise unreadable_dsn()
    _refuse_parameters(parameters)
    ignored = [name for name in parameters if name in WITHOUT_EFFECT | HARMLESS_VALUES.keys()]
    if ignored:
        logger.warning(IGNORED, ", ".join(ignored))
    for name in ignored:
        del parameters[name]
    if fallback := parameters.pop("fallback_application_name", ""):
        parameters.setdefault("application_name", fallback)
    options = {
        name: number(name, parameters.pop(name, default)) for name, default in KEEPALIVE.items()
    }
    limit = number("connect_timeout", parameters.pop("connect_timeout", "0"))
    target = parameters.get("target_session_attrs", "")
    tls = _system_tls(parameters)
    query = urlencode(parameters, quote_via=quote)
    return _DSN(url._replace(query=query).geturl(), limit, options, tls, target)


def _refuse_parameters(parameters: dict[str, str]) -> None:
    for name, value in parameters.items():
        harmless = HARMLESS_VALUES.get(name)
        if name in REFUSED or (harmless is not None and value.lower() not in harmless):
            raise ConfigError(
                f"{name} of the PostgreSQL DSN cannot be had with asyncpg: remove it, or use the "
                "driver aiopg"
            )
        choices = CHOICES.get(name, (value,))
        if value not in choices:
            raise ConfigError(f"{name} of the PostgreSQL DSN must be one of {', '.join(choices)}")
        is_file = name in FILES and value and (name, value) != ("sslrootcert", "system")
        if is_file and not os.access(value, os.R_OK):
            raise ConfigError(f"the file of {name} of the PostgreSQL DSN cannot be read")


def _system_tls(parameters: dict[str, str]) -> ssl.SSLContext | None:
    """Return the context of ``sslrootcert=system``, which asyncpg takes for a file's name."""
    if parameters.get("sslrootcert") != "system":
        return None
    # libpq has the same rule: anybody can get a certificate of a public authority.
    if parameters.get("sslmode", "verify-full") != "verify-full":
        raise ConfigError(
            "sslrootcert=system of the PostgreSQL DSN needs sslmode=verify-full, or no sslmode"
        )
    context = ssl.create_default_context()
    context.set_alpn_protocols(["postgresql"])
    if "sslcert" in parameters:
        password = parameters.get("sslpassword", "")
        context.load_cert_chain(
            parameters["sslcert"], parameters.get("sslkey"), password=lambda: password
        )
    for name in ("sslrootcert", "sslmode", "sslcert", "sslkey", "sslpassword"):
        parameters.pop(name, None)
    return context
