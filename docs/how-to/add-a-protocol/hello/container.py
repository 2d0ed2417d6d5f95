"""The wiring: which engines are opened, and what is served on which listener. Read it first."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import api_hour

from . import routes
from .engines import Engines
from .lines import Lines
from .settings import Settings


class Container(api_hour.Container):
    """The application of each worker: opens the engines, serves, closes the engines."""

    settings = Settings
    config: Settings

    @asynccontextmanager
    async def engines(self) -> AsyncIterator[None]:
        """Open what the services need, for as long as the daemon serves."""
        async with Engines().open(self.config) as self.opened:
            yield

    def servers(self) -> dict[str, api_hour.Server]:
        """Return the server of each listener in main.yaml."""
        lines = Lines(self.opened.postgresql)
        return {
            "http": api_hour.HTTPServer(routes.http(self.config.http, self.opened)),
            "admin": api_hour.HTTPServer(routes.admin(self, vars(self.opened))),
            "lines": api_hour.StreamServer(lines.handle, on_drain=lines.on_drain),
        }
