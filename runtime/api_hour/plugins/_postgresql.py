"""What the PostgreSQL plugins share: time limits, the server's guards of a session, messages."""

from api_hour.exceptions import ConfigError

ANSWER_MARGIN = 1.0  # seconds a client waits after the server should have ended a statement
CLIENT_CHECK = 1.0  # seconds between two checks by the server that a statement's client is there
CLOSE_GRACE = 5.0  # seconds for connections in use to be released when a pool closes
PING_TIMEOUT = 0.9  # seconds; so that ping() fails in less than one

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


def unreadable_dsn() -> ConfigError:
    """Return the error for a DSN that cannot be parsed, without repeating its password."""
    form = "postgresql://USER:PASSWORD@HOST:PORT/NAME, special characters as %XX"
    return ConfigError(f"cannot parse the PostgreSQL DSN: write it as {form}")
