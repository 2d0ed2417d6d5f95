"""HTTP: an ordinary aiohttp application as a Server, with a drain that loses nothing.

The drain is done in the protocol, below the application: a response that is not yet sent says
``Connection: close``, and a connection without a request is answered until the window is over.
"""

import asyncio
import functools
import inspect
import logging
import socket
import warnings
from typing import Any, cast

from aiohttp import web
from aiohttp.web_server import Server as AiohttpServer

from api_hour.container import ServerOptions
from api_hour.exceptions import ConfigError
from api_hour.http.access_log import AccessLogger
from api_hour.http.connection import Connections

IDLE_CHECK = 0.1  # seconds between two looks for connections that have become idle
CANCEL_GRACE = 1.0  # seconds that a cancelled handler has after the deadline


class HTTPServer:
    """Serve an ordinary ``aiohttp.web.Application`` on one listener.

    ``keepalive_timeout``: seconds an idle connection is kept; ``header_timeout``: seconds a new
    one has for its first request. ``handler_args`` are those of aiohttp's ``AppRunner``. Raises
    ConfigError at start for an endpoint that is a plain function.
    """

    def __init__(
        self,
        app: web.Application,
        *,
        keepalive_timeout: float = 75.0,
        header_timeout: float = 30.0,
        **handler_args: Any,
    ) -> None:
        self.app = app
        self.options = ServerOptions()
        self._connections: Connections | None = None
        timeouts = {"keepalive_timeout": keepalive_timeout, "header_timeout": header_timeout}
        if "access_log_format" not in handler_args:  # aiohttp's own logger knows the signs of one
            handler_args.setdefault("access_log_class", AccessLogger)
        self._handler_args = timeouts | handler_args

    @property
    def requests(self) -> int:
        """Return how many requests have begun to be served."""
        return 0 if self._connections is None else self._connections.requests_count

    async def start(self, sock: socket.socket) -> None:
        """Run the application's start-up, then accept on ``sock``; a second one is added to it."""
        if self._connections is None:
            _refuse_plain_functions(self.app)
            log = logging.getLogger("gunicorn.access") if self.options.access_log else None
            runner = web.AppRunner(self.app, access_log=log, **self._handler_args)
            await runner.setup()
            made = cast(AiohttpServer, runner.server)
            cancels = made.handler_cancellation
            kind = _connections_class(self.options)
            self._connections = kind(
                self.app, self.options, handler_cancellation=cancels, **made._kwargs
            )
        self._connections.acceptor.add(sock)

    async def drain(self, deadline: float) -> None:
        """Answer what is here and what idle connections still send, then close.

        A connection is closed when it has been idle for ``options.drain_idle`` seconds, also one
        whose last answer, begun before the drain, promised to keep it; everything else at
        ``deadline`` (``loop.time()``). The application's ``on_shutdown`` comes in between, when no
        WebSocket can open any more: it is the place to tell their peers.
        """
        connections = self._connections
        if connections is None:
            return
        connections.draining = True
        acceptor, loop = connections.acceptor, asyncio.get_running_loop()
        window = self.options.drain_idle
        try:
            await acceptor.close()
            await acceptor.emptied(min(loop.time() + window, deadline))
            connections.close_idle(loop.time() - window)
            await self.app.shutdown()
            while connections.open and loop.time() < deadline:
                await acceptor.emptied(min(loop.time() + IDLE_CHECK, deadline))
                connections.close_idle(loop.time() - window)
        finally:
            await connections.shutdown(CANCEL_GRACE)
            await self.app.cleanup()


def _connections_class(options: ServerOptions) -> type[Connections]:
    """Return what makes the connections. Nothing else outside ``http/fast/`` imports it."""
    if options.fast:
        from api_hour.http import fast

        if fast.usable():
            from api_hour.http.fast.connection import FastConnections

            return FastConnections
    return Connections


def _refuse_plain_functions(app: web.Application) -> None:
    """Raise ConfigError for an endpoint that would block the loop."""
    for route in app.router.routes():
        plain = getattr(route.handler, "__wrapped__", None)
        by_aiohttp = getattr(route.handler, "__code__", None) is _bare_wrapper()
        if by_aiohttp and not inspect.iscoroutinefunction(plain):
            name = getattr(plain, "__qualname__", plain)
            raise ConfigError(
                f"endpoint {name} is a plain function, which would block every other request: "
                "write async def, or decorate it with @api_hour.threaded"
            )


@functools.cache
def _bare_wrapper() -> object:
    """Return the code that aiohttp wraps around a plain function."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        route = web.Application().router.add_get("/", cast(Any, print))
    return getattr(route.handler, "__code__", None)
