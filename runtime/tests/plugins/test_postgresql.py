"""What the PostgreSQL plugins share; needs no server."""

import subprocess
import sys

import pytest

from api_hour.exceptions import DatabaseUnavailable
from api_hour.plugins import _postgresql

LIBRARIES = {"aiohttp", "gunicorn", "msgspec", "prometheus_client", "ujson", "uvloop", "yaml"}


def test_guards_are_whole_milliseconds_and_zero_stays_no_limit() -> None:
    assert _postgresql.guards(0.0015, 0) == {
        "statement_timeout": "2",
        "idle_in_transaction_session_timeout": "0",
        "client_connection_check_interval": "1000",
    }


@pytest.mark.parametrize(
    ("message", "refused"),
    [
        ("no connection: FATAL: unsupported startup parameter: options", True),
        ('no connection: FATAL: role "hello" does not exist', False),
    ],
)
def test_a_pooler_that_refuses_the_guards_is_recognised(message: str, refused: bool) -> None:
    assert _postgresql.refuses_guards(DatabaseUnavailable(message)) is refused


def test_the_error_for_a_dsn_shows_the_form_and_no_password() -> None:
    assert str(_postgresql.unreadable_dsn()) == (
        "cannot parse the PostgreSQL DSN: write it as postgresql://USER:PASSWORD@HOST:PORT/NAME,"
        " special characters as %XX"
    )


@pytest.mark.parametrize(
    ("plugin", "drivers"), [("aiopg", {"aiopg", "psycopg2"}), ("asyncpg", {"asyncpg"})]
)
def test_a_plugin_imports_its_driver_and_of_api_hour_only_the_exceptions(
    plugin: str, drivers: set[str]
) -> None:
    code = f"import sys, api_hour.plugins.{plugin}; print(*sys.modules)"
    loaded = set(subprocess.check_output([sys.executable, "-c", code], text=True).split())
    assert {"aiopg", "asyncpg", "psycopg", "psycopg2"} & loaded == drivers
    assert not LIBRARIES & loaded
    package = {"api_hour", "api_hour.exceptions", "api_hour.plugins"}
    modules = {"api_hour.plugins._postgresql", f"api_hour.plugins.{plugin}"}
    assert {name for name in loaded if name.partition(".")[0] == "api_hour"} == package | modules
