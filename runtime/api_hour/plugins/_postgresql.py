"""What the PostgreSQL plugins share: limits, the server's guards, signs of an outage, messages."""

import asyncio

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

GUARDS_REFUSED = "%s: set the timeouts with ALTER ROLE instead"
STARTING_WITHOUT = "Starting without PostgreSQL for now: %s"


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
