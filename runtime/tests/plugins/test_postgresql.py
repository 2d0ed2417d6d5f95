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


@pytest.mark.parametrize(
    ("sqlstate", "target", "outage"),
    [
        ("57P01", "", True),
        ("08006", "", True),
        ("08P01", "", False),
        ("25006", "", False),
        ("25006", "read-write", True),
        (None, "", False),
    ],
)
def test_an_outage_is_told_from_the_fault_of_one_connection(
    sqlstate: str | None, target: str, outage: bool
) -> None:
    assert _postgresql.is_outage(sqlstate, target) is outage


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
    modules = {f"api_hour.plugins.{name}" for name in ("_dsn", "_postgresql", plugin)}
    assert {name for name in loaded if name.partition(".")[0] == "api_hour"} == package | modules
