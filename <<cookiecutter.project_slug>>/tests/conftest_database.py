"""What tests share: a PostgreSQL that is empty when a test begins, and clients of the listeners."""

from collections.abc import AsyncIterator

import pytest
from api_hour import testing
from api_hour.plugins import embedded
from api_hour.testing import Client

from << cookiecutter.project_slug >>.container import Container
from << cookiecutter.project_slug >>.engines.postgresql import Pool
from << cookiecutter.project_slug >>.settings import PostgreSQL, Settings

pytest_plugins = ["api_hour.testing"]  # brings the fixture `database`


@pytest.fixture
def variables(database: embedded.PostgreSQL) -> dict[str, str]:
    """Return what the daemon's environment names."""
    return {"DATABASE_URL": database.url}


@pytest.fixture
async def container(database: embedded.PostgreSQL) -> AsyncIterator[Container]:
    """Open the engines; no row of another test is left."""
    container = Container(Settings(postgresql=PostgreSQL(dsn=database.url)))
    async with container.engines():
        await testing.empty(container.opened.postgresql)
        yield container


@pytest.fixture
def pool(container: Container) -> Pool:
    """Return the pool to PostgreSQL."""
    return container.opened.postgresql


@pytest.fixture
async def clients(container: Container) -> AsyncIterator[dict[str, Client]]:
    """Serve every listener, as a worker that is ready does."""
    async with testing.serve(container) as clients:
        yield clients


@pytest.fixture
def client(clients: dict[str, Client]) -> Client:
    """Return the client of the listener ``http``."""
    return clients["http"]


@pytest.fixture
def admin(clients: dict[str, Client]) -> Client:
    """Return the client of the listener ``admin``."""
    return clients["admin"]
