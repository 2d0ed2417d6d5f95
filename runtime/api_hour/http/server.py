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
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_server import Server as AiohttpServer

from api_hour.container import ServerOptions
from api_hour.exceptions import ConfigError
from api_hour.http.access_log import AccessLogger
from api_hour.http.connection import Connection
from api_hour.http.fast.connection import FastConnection, FastPath, usable
from api_hour.http.proxy_headers import Proxies
from api_hour.http.request import Request
from api_hour.http.request_checks import strict
from api_hour.logs.request_id import Ids
from api_hour.servers.acceptor import Acceptor

LOOK_AGAIN = 0.1  # seconds between two looks for connections that have become idle
CANCELLED = 1.0  # seconds that a handler has after its deadline


class Hub(AiohttpServer):
    """Make the connections of one server and know when the last one is gone."""

    def __init__(self, app: web.Application, options: ServerOptions, **kwargs: Any) -> None:
        proxies = Proxies(options.trusted_proxies) if options.trusted_proxies else None
        self.request_constants = {"_proxies": proxies}
        kind = type("Request", (Request,), self.request_constants)
        factory = functools.partial(app._make_request, _cls=kind)
        self.ids = Ids() if options.request_ids else None
        super().__init__(strict(app._handle, self.ids), request_factory=factory, **kwargs)
        self.draining = False
        self.meter = _meter(self, options)
        self.fast = FastPath(self, app) if options.fast and usable() else None
        self.open: set[Connection] = set()
        self.acceptor = Acceptor(self, tls=options.tls, limit=options.max_connections)

    def __call__(self) -> Connection:
        """Return the protocol of a new connection."""
        kind = FastConnection if self.fast else Connection
        return kind(self, loop=self._loop, **self._kwargs)

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        """Count a connection."""
        super().connection_made(handler, transport)
        self.open.add(cast(Connection, handler))

    def lost(self, connection: Connection) -> None:
        """Count a connection off."""
        self.open.discard(connection)
        self.acceptor.release()

    def close_idle(self, since: float) -> None:
        """Close the connections that are idle and have been since ``since`` (``loop.time()``)."""
        for connection in list(self.open):
            connection.close_idle(since)


def _meter(hub: Hub, options: ServerOptions) -> Any:
    """Return what counts the requests, if they are to be counted."""
    if not options.metrics:
        return None
    from api_hour.http.metrics import Meter

    return Meter(hub, options.listener)


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
        self._hub: Hub | None = None
        timeouts = {"keepalive_timeout": keepalive_timeout, "header_timeout": header_timeout}
        if "access_log_format" not in handler_args:  # aiohttp's own logger knows the signs of one
            handler_args.setdefault("access_log_class", AccessLogger)
        self._handler_args = timeouts | handler_args

    @property
    def requests(self) -> int:
        """Return how many requests have begun to be served."""
        return 0 if self._hub is None else self._hub.requests_count

    async def start(self, sock: socket.socket) -> None:
        """Run the application's start-up, then accept on ``sock``; a second one is added to it."""
        if self._hub is None:
            _refuse_plain_functions(self.app)
            log = logging.getLogger("gunicorn.access") if self.options.access_log else None
            runner = web.AppRunner(self.app, access_log=log, **self._handler_args)
            await runner.setup()
            made = cast(AiohttpServer, runner.server)
            cancels = made.handler_cancellation
            self._hub = Hub(self.app, self.options, handler_cancellation=cancels, **made._kwargs)
        self._hub.acceptor.add(sock)

    async def drain(self, deadline: float) -> None:
        """Answer what is here and what idle connections still send, then close.

        A connection is closed when it has been idle for ``options.drain_idle`` seconds, also one
        whose last answer, begun before the drain, promised to keep it; everything else at
        ``deadline`` (``loop.time()``). The application's ``on_shutdown`` comes in between, when no
        WebSocket can open any more: it is the place to tell their peers.
        """
        hub, loop, window = self._hub, asyncio.get_running_loop(), self.options.drain_idle
        if hub is None:
            return
        hub.draining = True
        try:
            await hub.acceptor.close()
            await hub.acceptor.emptied(min(loop.time() + window, deadline))
            hub.close_idle(loop.time() - window)
            await self.app.shutdown()
            while hub.open and loop.time() < deadline:
                await hub.acceptor.emptied(min(loop.time() + LOOK_AGAIN, deadline))
                hub.close_idle(loop.time() - window)
        finally:
            await hub.shutdown(CANCELLED)
            if hub.fast:
                hub.fast.spares.close()
            await self.app.cleanup()


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
