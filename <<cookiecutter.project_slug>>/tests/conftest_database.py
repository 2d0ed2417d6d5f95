"""What tests share: a real PostgreSQL with the migrations applied, engines, HTTP clients."""

import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from api_hour.plugins import embedded

from << cookiecutter.project_slug >> import routes
from << cookiecutter.project_slug >>.container import Container
from << cookiecutter.project_slug >>.engines import Engines
from << cookiecutter.project_slug >>.engines.postgresql import Pool
from << cookiecutter.project_slug >>.settings import HTTP, PostgreSQL, Settings

ROOT = Path(__file__).parent.parent
Client = TestClient[web.Request, web.Application]


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[embedded.PostgreSQL]:
    """Run a server for the tests alone, whatever DATABASE_URL says."""
    with embedded.postgresql(tmp_path_factory.mktemp("data"), own=True) as server:
        command = ["make", "--silent", "migrate"]
        run = subprocess.run(command, cwd=ROOT, env=_with(server), capture_output=True, text=True)
        if run.returncode:
            pytest.exit(f"the migrations failed:\n{run.stdout}{run.stderr}", returncode=1)
        yield server


@pytest.fixture
def environment(database: embedded.PostgreSQL) -> dict[str, str]:
    """Return the daemon's environment, which names the database."""
    return _with(database)


@pytest.fixture
async def engines(database: embedded.PostgreSQL) -> AsyncIterator[Engines]:
    """Open the engines."""
    async with Engines().open(Settings(postgresql=PostgreSQL(dsn=database.url))) as engines:
        yield engines


@pytest.fixture
def pool(engines: Engines) -> Pool:
    """Return the pool to PostgreSQL."""
    return engines.postgresql


@pytest.fixture
async def client(engines: Engines) -> AsyncIterator[Client]:
    """Serve the listener ``http``."""
    async with TestClient(TestServer(routes.http(HTTP(), engines))) as client:
        yield client


@pytest.fixture
async def admin(engines: Engines) -> AsyncIterator[Client]:
    """Serve the listener ``admin`` of a worker that is ready."""
    container = Container()
    container.ready = True
    async with TestClient(TestServer(routes.admin(container, vars(engines)))) as client:
        yield client


def _with(server: embedded.PostgreSQL) -> dict[str, str]:
    return {**os.environ, "DATABASE_URL": server.url}
