"""The wiring: which engines are opened, and what is served on which listener. Read it first."""

<% if cookiecutter.database != "none" %>
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

<% endif %>
import api_hour

from . import routes
<% if cookiecutter.database != "none" %>
from .engines import Engines
<% endif %>
from .settings import Settings


class Container(api_hour.Container):
    """The application of each worker: opens the engines<< " (none yet)" if cookiecutter.database == "none" >>, serves, closes the engines."""

    settings = Settings
    config: Settings

<% if cookiecutter.database != "none" %>
    @asynccontextmanager
    async def engines(self) -> AsyncIterator[None]:
        """Open what the services need, for as long as the daemon serves."""
        async with Engines().open(self.config) as self.opened:
            yield

<% endif %>
    def servers(self) -> dict[str, api_hour.Server]:
        """Return the server of each listener in main.yaml."""
        return {
<% if cookiecutter.database != "none" %>
            "http": api_hour.HTTPServer(routes.http(self.config.http, self.opened)),
            "admin": api_hour.HTTPServer(routes.admin(self, vars(self.opened))),
<% else %>
            "http": api_hour.HTTPServer(routes.http(self.config.http)),
            "admin": api_hour.HTTPServer(routes.admin(self, {})),
<% endif %>
        }
