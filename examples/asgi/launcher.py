"""An ASGI application, served by uvicorn's protocol class.

``pip install uvicorn``, then ``api_hour launcher:Container`` in this folder. uvicorn speaks HTTP
and ASGI; processes, sockets, reloads and the drain are API-Hour's.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import formatdate

import api_hour
import uvicorn
from uvicorn.lifespan.on import LifespanOn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

WINDOW = 1.0  # seconds of a drain during which idle connections are still answered
LAST_TASKS = 5.0  # seconds for the application's work after its last answer


class Container(api_hour.Container):
    @asynccontextmanager
    async def engines(self) -> AsyncIterator[None]:
        """Run the application's lifespan; create what its connections share."""
        self.uvicorn = uvicorn.Config("hello:app", log_config=None)
        self.uvicorn.load()
        self.state = ServerState()
        self.state.default_headers = [date(), *self.uvicorn.encoded_headers]
        self.lifespan = LifespanOn(self.uvicorn)
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            raise api_hour.ConfigError("the ASGI application did not start: its log says why")
        async with asyncio.TaskGroup() as tasks:
            clock = tasks.create_task(self.keep_date())
            yield
            clock.cancel()
        if self.state.tasks:
            await asyncio.wait(self.state.tasks, timeout=LAST_TASKS)
        await self.lifespan.shutdown()

    async def keep_date(self) -> None:
        while True:
            await asyncio.sleep(1)
            self.state.default_headers[0] = date()

    def servers(self) -> dict[str, api_hour.Server]:
        return {"http": api_hour.StreamServer(self.connection, on_drain=self.on_drain)}

    def connection(self) -> H11Protocol:
        return H11Protocol(self.uvicorn, self.state, self.lifespan.state)

    async def on_drain(self, server: api_hour.StreamServer) -> None:
        """Close each connection after its next answer, and idle ones after the window."""
        # Change the list in place: in-flight requests hold a reference to it.
        self.state.default_headers.append((b"connection", b"close"))
        await asyncio.sleep(WINDOW)
        for connection in list(self.state.connections):
            connection.shutdown()


def date() -> tuple[bytes, bytes]:
    return b"date", formatdate(usegmt=True).encode()
