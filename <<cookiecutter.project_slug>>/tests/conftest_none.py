"""What tests share: HTTP clients."""

import os
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from << cookiecutter.project_slug >> import routes
from << cookiecutter.project_slug >>.container import Container
from << cookiecutter.project_slug >>.settings import HTTP

Client = TestClient[web.Request, web.Application]


@pytest.fixture
def environment() -> dict[str, str]:
    """Return the daemon's environment."""
    return dict(os.environ)


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    """Serve the listener ``http``."""
    async with TestClient(TestServer(routes.http(HTTP()))) as client:
        yield client


@pytest.fixture
async def admin() -> AsyncIterator[Client]:
    """Serve the listener ``admin`` of a worker that is ready."""
    container = Container()
    container.ready = True
    async with TestClient(TestServer(routes.admin(container, {}))) as client:
        yield client
