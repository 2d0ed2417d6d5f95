"""A pytest plugin for the tests of a project: what it serves, its daemon, and its database.

A project asks for it in ``tests/conftest.py``: ``pytest_plugins = ["api_hour.testing"]``. Fixtures
of a plugin cannot be asynchronous for pytest-asyncio and anyio alike. So what is asynchronous is a
context manager, for a fixture of the project, and ``database`` is the one fixture here. A name is
imported when it is first used: who tests no HTTP loads no aiohttp.

PYTEST_DONT_REWRITE: a conftest.py has imported this module before pytest loads it as a plugin, and
pytest would warn that it cannot rewrite its assertions. There are none.
"""

import os
import subprocess
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from api_hour.plugins import embedded

if TYPE_CHECKING:
    from api_hour.testing.answers import Answer as Answer
    from api_hour.testing.daemons import Daemon as Daemon
    from api_hour.testing.daemons import daemon as daemon
    from api_hour.testing.serving import Client as Client
    from api_hour.testing.serving import client as client
    from api_hour.testing.serving import serve as serve
    from api_hour.testing.tables import empty as empty

# No module here is named as one of these: its import would hide the name.
_HOMES = {
    "Answer": "answers",
    "Client": "serving",
    "Daemon": "daemons",
    "client": "serving",
    "daemon": "daemons",
    "empty": "tables",
    "serve": "serving",
}
__all__ = ["database", *sorted(_HOMES)]
MIGRATE = "api_hour_migrate"


def __getattr__(name: str) -> object:
    """Import the module that holds ``name`` and return the object."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the setting of pytest."""
    parser.addini(
        MIGRATE,
        "the command, as a list, that applies the migrations to DATABASE_URL before the tests",
        type="args",
    )


@pytest.fixture(scope="session")
def database(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[embedded.PostgreSQL]:
    """Run a PostgreSQL for the tests alone, with the migrations applied.

    It is used whatever DATABASE_URL says. Tests may ``stop()`` and ``start()`` it. It ends with
    pytest, by kill -9 too.
    """
    with embedded.postgresql(tmp_path_factory.mktemp("postgresql"), own=True) as server:
        if command := pytestconfig.getini(MIGRATE):
            _run(command, pytestconfig.rootpath, {"DATABASE_URL": server.url})
        yield server


def _run(command: list[str], folder: Path, variables: Mapping[str, str]) -> None:
    """Run the migrations; end the whole run if they fail, since every test would."""
    try:
        done = subprocess.run(  # noqa: S603
            command,
            cwd=folder,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
        )
    except OSError as error:
        reason = f"{error.strerror}: {command[0]}"
    else:
        if not done.returncode:
            return
        reason = f"`{' '.join(command)}` in {folder} ended with {done.returncode}:\n"
        reason += done.stdout + done.stderr
    pytest.exit(f"{MIGRATE}: {reason}", returncode=1)
