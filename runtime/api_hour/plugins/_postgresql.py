"""What the PostgreSQL plugins share: the verbs of their pools, guards, signs of an outage.

Every pool has the same face, so that a service names its driver only in its placeholders:

    fetch, fetchrow, fetchval, execute     one statement by itself, on a connection of its own
    transaction()                          the same four verbs between BEGIN and COMMIT
    connection()                           the driver's own connection, in autocommit

A plugin drives one connection as a ``Session``; ``Pool`` and ``Transaction`` build the face on it.
"""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar, get_args

from api_hour.exceptions import DatabaseUnavailable, InvalidArgument

Row = TypeVar("Row", bound=Sequence[Any])
Isolation = Literal["read committed", "repeatable read", "serializable"]

ANSWER_MARGIN = 1.0  # seconds a client waits after the server should have ended a statement
CLIENT_CHECK = 1.0  # seconds between two checks by the server that a statement's client is there
CLOSE_GRACE = 5.0  # seconds for connections in use to be released when a pool closes
# How soon TCP finds that the other end is gone, by libpq's names; a DSN may set others. Firewalls
# and load balancers forget connections that are idle for some minutes, and tell nobody. So idle
# connections are probed more often, and what is sent must be acknowledged in time.
KEEPALIVE = {
    "keepalives": "1",
    "keepalives_idle": "30",  # seconds
    "keepalives_interval": "5",  # seconds
    "keepalives_count": "3",
    "tcp_user_timeout": "3000",  # milliseconds
}
READ_ONLY = "25006"  # SQLSTATE of a statement that writes, in a server that does not
# The server is shut down or crashed, or connections do not get through (class 08).
OUTAGES = "57P01", "57P02", "57P03", "08"
# A wrong bind, or PgBouncer has no server connection to spare: no word about other connections.
PROTOCOL_VIOLATION = "08P01"
POOLER_BUSY = "query_wait_timeout"
PRIMARY = "read-write", "primary"  # values of target_session_attrs that a standby does not meet
PING_TIMEOUT = 0.9  # seconds; so that ping() fails in less than one
LATE = 0.3  # seconds; a timeout that comes later shows that the loop was blocked

# The server cannot store a text: a NUL character, also in a document of type jsonb.
UNSTORABLE_TEXT = "22021", "22P05"
ARGUMENT = "the text of an argument"
HAS_NUL = "has a NUL character (U+0000), and PostgreSQL stores every character but that one"

GUARDS_REFUSED = "%s: set the timeouts with ALTER ROLE instead"
STARTING_WITHOUT = "Starting without PostgreSQL for now: %s"

logger = logging.getLogger(__name__)


class Executor(ABC, Generic[Row]):
    """What runs statements: a pool, each on a connection of its own, or a transaction.

    A row is the driver's own, and can be unpacked. The placeholders are the driver's, too.
    """

    __slots__ = ()

    async def fetch(self, statement: str, *arguments: object) -> list[Row]:
        """Return the rows of a statement; an empty list also if it is of a kind without rows."""
        return await self._query(statement, arguments, 0)

    async def fetchrow(self, statement: str, *arguments: object) -> Row | None:
        """Return the first row, or None."""
        rows = await self._query(statement, arguments, 1)
        return rows[0] if rows else None

    async def fetchval(self, statement: str, *arguments: object) -> Any:
        """Return the value of the first column of the first row, or None."""
        rows = await self._query(statement, arguments, 1)
        return rows[0][0] if rows else None

    async def execute(self, statement: str, *arguments: object) -> int:
        """Return the number of rows that a statement affected or found; 0 if it has none."""
        count = (await self._command(statement, arguments)).rpartition(" ")[2]
        return int(count) if count.isdecimal() else 0

    @abstractmethod
    async def _query(self, statement: str, arguments: tuple[object, ...], limit: int) -> list[Row]:
        """Return the rows of a statement, at least ``limit`` of them; 0 means all."""

    @abstractmethod
    async def _command(self, statement: str, arguments: tuple[object, ...]) -> str:
        """Return PostgreSQL's command tag of a statement, such as ``INSERT 0 1``."""


class Session(Protocol[Row]):
    """One connection, as a plugin drives it: it raises the errors of ``api_hour.exceptions``."""

    @property
    def closed(self) -> object:
        """Whether the connection is closed."""

    def close(self) -> object:
        """Close the connection without waiting for the server."""

    async def query(self, statement: str, arguments: tuple[object, ...], limit: int) -> list[Row]:
        """See ``Executor._query``."""

    async def command(self, statement: str, arguments: tuple[object, ...]) -> str:
        """See ``Executor._command``."""


class Pool(Executor[Row]):
    """The common face of the pools."""

    __slots__ = ()
    paramstyle: ClassVar[str]  # of PEP 249

    @abstractmethod
    def _session(self) -> AbstractAsyncContextManager[Session[Row]]:
        """Return a context manager that holds a connection."""

    @asynccontextmanager
    async def transaction(
        self,
        *,
        isolation: Isolation | None = None,
        readonly: bool = False,
        deferrable: bool = False,
    ) -> AsyncIterator["Transaction[Row]"]:
        """Yield a connection with the four verbs; COMMIT at the end, ROLLBACK if the block raises.

        Without ``isolation`` the server's own level holds. ``deferrable`` waits until a
        serializable transaction that only reads can neither fail nor make others fail.

        A DatabaseUnavailable or QueryTimeout, and a cancellation, leaves it unknown whether a
        COMMIT that had been sent took effect. Raises RuntimeError if the block caught the error of
        a statement, after which PostgreSQL commits nothing: catch it outside of the block, or go
        back to a savepoint.
        """
        begin = _begin(isolation, readonly, deferrable)
        async with self._session() as session:
            transaction = Transaction(session)
            try:
                await session.command(begin, ())
                yield transaction
                transaction._end()
            except (Exception, asyncio.CancelledError):
                transaction._ended = True
                await _roll_back(session)
                raise
            await _commit(session)

    async def _query(self, statement: str, arguments: tuple[object, ...], limit: int) -> list[Row]:
        async with self._session() as session:
            return await session.query(statement, arguments, limit)

    async def _command(self, statement: str, arguments: tuple[object, ...]) -> str:
        async with self._session() as session:
            return await session.command(statement, arguments)


class Transaction(Executor[Row]):
    """A connection between BEGIN and COMMIT, for one task at a time."""

    def __init__(self, session: Session[Row]) -> None:
        self._session = session
        self._busy = False
        self._ended = False

    async def _query(self, statement: str, arguments: tuple[object, ...], limit: int) -> list[Row]:
        self._begin_statement()
        try:
            return await self._session.query(statement, arguments, limit)
        finally:
            self._busy = False

    async def _command(self, statement: str, arguments: tuple[object, ...]) -> str:
        self._begin_statement()
        try:
            return await self._session.command(statement, arguments)
        finally:
            self._busy = False

    def _begin_statement(self) -> None:
        self._refuse_busy()
        if self._ended:  # the connection may serve another task by now
            raise RuntimeError("the transaction has ended: use its connection inside the block")
        self._busy = True

    def _end(self) -> None:
        self._refuse_busy()
        self._ended = True

    def _refuse_busy(self) -> None:
        if self._busy:
            raise RuntimeError(
                "the transaction runs a statement of another task: use it from one task at a time"
            )


def _begin(isolation: str | None, readonly: bool, deferrable: bool) -> str:
    """Return the statement that begins a transaction; raises ValueError for wrong options."""
    levels = get_args(Isolation)
    if isolation is not None and isolation not in levels:
        raise ValueError(f"isolation must be one of {', '.join(levels)}, got {isolation!r}")
    if deferrable and not (readonly and isolation == "serializable"):
        raise ValueError("deferrable acts only with isolation='serializable' and readonly=True")
    level = f" ISOLATION LEVEL {isolation.upper()}" if isolation else ""
    return f"BEGIN{level}{' READ ONLY' * readonly}{' DEFERRABLE' * deferrable}"


async def _commit(session: Session[Row]) -> None:
    can_be_sent = not session.closed
    try:
        tag = await session.command("COMMIT", ())
    except DatabaseUnavailable as error:
        if not can_be_sent:
            raise
        raise DatabaseUnavailable(f"{error}; whether COMMIT took effect is unknown") from error
    if tag != "COMMIT":
        raise RuntimeError(
            "PostgreSQL rolled the transaction back, because a statement in it had failed and the "
            "block caught its error: catch it outside of the block, or go back to a savepoint"
        )


async def _roll_back(session: Session[Row]) -> None:
    """Roll back, or close the connection: the caller gets the error that made it necessary."""
    if session.closed:
        return
    try:
        async with asyncio.timeout(ANSWER_MARGIN):
            await session.command("ROLLBACK", ())
    except BaseException as error:
        session.close()
        if not isinstance(error, Exception):
            raise
        logger.warning("Closed a connection that could not be rolled back: %s", error)


def guards(statement_timeout: float, idle_in_transaction_timeout: float) -> dict[str, str]:
    """Return the settings by which the server itself limits a session, in milliseconds.

    Both arguments are in seconds; 0 means no limit. The client's own timeouts are no substitute:
    after one of them the server would go on with the statement, and keep its locks.
    """
    timeouts = {
        "statement_timeout": statement_timeout,
        "idle_in_transaction_session_timeout": idle_in_transaction_timeout,
        "client_connection_check_interval": CLIENT_CHECK,
    }
    return {name: str(round(seconds * 1000)) for name, seconds in timeouts.items()}


def refuses_guards(error: Exception) -> bool:
    """Return whether a pooler such as PgBouncer refused a connection because of its guards."""
    return "startup parameter" in str(error)


def is_outage(sqlstate: str | None, target: str) -> bool:
    """Return whether an error says that this server is unusable for now, also by other connections.

    ``target`` is the DSN's target_session_attrs: after a failover, the old primary may go on as a
    standby, and refuses what it is asked to write.
    """
    code = sqlstate or ""
    if code == PROTOCOL_VIOLATION:
        return False
    return code.startswith(OUTAGES) or (code == READ_ONLY and target in PRIMARY)


def came_late(limit: asyncio.Timeout) -> bool:
    """Return whether a timeout that expired says more about the loop than about the server."""
    now, when = asyncio.get_running_loop().time(), limit.when()
    return when is not None and now - when > LATE


def invalid_text(error: BaseException | None, sqlstate: str | None) -> InvalidArgument | None:
    """Return what to raise instead of ``error`` if it says that a text cannot be stored."""
    if isinstance(error, UnicodeEncodeError):
        character, encoding = ascii(error.object[error.start]), error.encoding
        return InvalidArgument(f"{ARGUMENT} has {character}, which {encoding} cannot encode")
    text = str(error)
    if sqlstate in UNSTORABLE_TEXT or (isinstance(error, ValueError) and "NUL (0x00)" in text):
        refusal = f"is refused: {text.partition(chr(10))[0]}"
        is_nul = "0x00" in text or "\\u0000" in text
        return InvalidArgument(f"{ARGUMENT} {HAS_NUL if is_nul else refusal}")
    return None
