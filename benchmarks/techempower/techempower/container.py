"""The wiring: the settings, the pool and the URLs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
from aiohttp import web

import api_hour
from api_hour.plugins import asyncpg

from . import endpoints, worlds


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The settings in main.yaml; ``pool_size`` is that of each worker."""

    dsn: str
    pool_size: int


class Container(api_hour.Container):
    """Every test type, on the listener ``http``."""

    settings = Settings
    config: Settings

    @asynccontextmanager
    async def engines(self) -> AsyncIterator[None]:
        """Open the pool."""
        size = self.config.pool_size
        pool = asyncpg.create_pool(self.config.dsn, minsize=size, maxsize=size, acquire_timeout=60)
        async with pool as self.pool:
            yield

    def servers(self) -> dict[str, api_hour.Server]:
        """Return the one server."""
        app = web.Application()
        app[endpoints.POOL] = self.pool
        app[endpoints.CACHE] = worlds.make_cache()
        app.router.add_get("/json", endpoints.json)
        app.router.add_get("/plaintext", endpoints.plaintext)
        app.router.add_get("/db", endpoints.db)
        app.router.add_get("/queries", endpoints.queries)
        app.router.add_get("/fortunes", endpoints.fortunes)
        app.router.add_get("/updates", endpoints.updates)
        app.router.add_get("/cached-queries", endpoints.cached_queries)
        return {"http": api_hour.HTTPServer(app)}
