"""The wiring: which engines are opened, and what is served on which listener. Read it first."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import api_hour

from . import routes
from .engines import postgresql
from .lines import Lines
from .settings import Settings


class Container(api_hour.Container):
    """The application of each worker: opens the engines, serves, closes the engines."""

    settings = Settings
    config: Settings

    @asynccontextmanager
    async def engines(self) -> AsyncIterator[None]:
        """Open what the services need, for as long as the daemon serves."""
        async with (
            postgresql.open_pool(self.config.postgresql) as self.pool,
            api_hour.observed("postgresql", self.pool),
        ):
            yield

    def servers(self) -> dict[str, api_hour.Server]:
        """Return the server of each listener in main.yaml."""
        lines = Lines(self.pool)
        return {
            "http": api_hour.HTTPServer(routes.http(self.config.http, self.pool)),
            "admin": api_hour.HTTPServer(routes.admin(self, {"postgresql": self.pool})),
            "lines": api_hour.StreamServer(lines.handle, on_drain=lines.on_drain),
        }
