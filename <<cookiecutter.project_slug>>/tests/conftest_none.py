"""What tests share: clients of the listeners."""

from collections.abc import AsyncIterator

import pytest
from api_hour import testing
from api_hour.testing import Client

from << cookiecutter.project_slug >>.container import Container
from << cookiecutter.project_slug >>.settings import Settings


@pytest.fixture
def variables() -> dict[str, str]:
    """Return what the daemon's environment names."""
    return {}


@pytest.fixture
def container() -> Container:
    """Return the Container."""
    return Container(Settings())


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
