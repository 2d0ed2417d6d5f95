"""What the plugins for PostgreSQL share: their times, the guards of a session, and messages."""

from api_hour.exceptions import ConfigError

ANSWER_MARGIN = 1.0  # seconds the server may be late in ending a statement
CLIENT_CHECK = 1.0  # seconds between the server's looks whether a statement's client is there
CLOSE_GRACE = 5.0  # seconds to give connections back to a closing pool
PING_TIMEOUT = 0.9  # seconds
GUARDS_REFUSED = "%s: set the timeouts by ALTER ROLE instead"
STARTING_WITHOUT = "Going on without PostgreSQL for now: %s"


def guards(statement_timeout: float, idle_in_transaction_timeout: float) -> dict[str, str]:
    """Return the settings, in milliseconds, by which the server guards a session."""
    timeouts = {
        "statement_timeout": statement_timeout,
        "idle_in_transaction_session_timeout": idle_in_transaction_timeout,
        "client_connection_check_interval": CLIENT_CHECK,
    }
    return {name: str(round(seconds * 1000)) for name, seconds in timeouts.items()}


def refuses_guards(error: Exception) -> bool:
    """Say whether a pooler such as PgBouncer refused a connection because of its guards."""
    return "startup parameter" in str(error)


def unreadable_dsn() -> ConfigError:
    """Return the error of a DSN, which it does not repeat: a password may be in it."""
    form = "postgresql://USER:PASSWORD@HOST:PORT/NAME, special characters as %XX"
    return ConfigError(f"the PostgreSQL DSN cannot be read: write {form}")
