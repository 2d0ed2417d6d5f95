"""The HTTP server: an ordinary aiohttp application as a Server, with a drain that loses nothing.

The drain happens in the protocol, below the application. Every response that has not been sent yet
carries ``Connection: close``; fresh and idle connections are answered until the window is over.
"""

import asyncio
import functools
import inspect
import logging
import os
import socket
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import msgspec
from aiohttp import BadContentDispositionHeader, BadContentDispositionParam, web
from aiohttp.web_log import AccessLogger as AiohttpAccessLogger
from aiohttp.web_server import Server as AiohttpServer

from api_hour.container import ServerOptions
from api_hour.exceptions import ConfigError
from api_hour.http import threads
from api_hour.http.access_log import AccessLogger, without
from api_hour.http.connection import Connections

IDLE_CHECK = 0.1  # seconds between two looks for connections that have become idle
CANCEL_GRACE = 1.0  # seconds that a cancelled handler has after the deadline
# Returns the OpenAPI document as JSON.
DOCUMENT: web.AppKey[Callable[[], bytes]] = web.AppKey("DOCUMENT")


class HTTPServer:
    """Serves an ordinary ``aiohttp.web.Application`` on one listener.

    ``keepalive_timeout`` replaces the setting ``keepalive`` for this server; with 0, each answer
    is the last one of its connection. ``header_timeout``, ``body_timeout``, ``body_min_rate``,
    ``send_timeout`` and ``request_timeout`` replace those of their names; 0 means no limit.
    ``handler_args`` are those of aiohttp's ``AppRunner``.

    Raises ConfigError for what is not an application, and for a limit that is not a number; so
    does ``start()`` for an endpoint or a middleware that could not work, and for an
    argument that aiohttp does not know.
    """

    def __init__(
        self,
        app: web.Application,
        *,
        keepalive_timeout: float | None = None,
        header_timeout: float | None = None,
        body_timeout: float | None = None,
        body_min_rate: int | None = None,
        send_timeout: float | None = None,
        request_timeout: float | None = None,
        **handler_args: Any,
    ) -> None:
        if not isinstance(app, web.Application):
            raise ConfigError(f"HTTPServer needs an aiohttp.web.Application, got {app!r}")
        self.app = app
        self.options = ServerOptions()
        self._connections: Connections | None = None
        limits = {
            "header_timeout": header_timeout,
            "body_timeout": body_timeout,
            "body_min_rate": body_min_rate,
            "send_timeout": send_timeout,
            "request_timeout": request_timeout,
        }
        self._limits: dict[str, Any] = {k: v for k, v in limits.items() if v is not None}
        for name, limit in (self._limits | {"keepalive_timeout": keepalive_timeout or 0}).items():
            if not isinstance(limit, int | float) or limit < 0:
                raise ConfigError(f"HTTPServer: {name} must be zero or more, got {limit!r}")
        # Only aiohttp's own logger understands a format.
        if "access_log_format" not in handler_args:
            handler_args.setdefault("access_log_class", AccessLogger)
        if keepalive_timeout is not None:
            handler_args["keepalive_timeout"] = keepalive_timeout
        self._handler_args = handler_args

    @property
    def requests(self) -> int:
        """Return the number of requests that have begun."""
        return 0 if self._connections is None else self._connections.requests_count

    async def start(self, sock: socket.socket) -> None:
        """Start the application, then accept on ``sock``; a second call adds another socket."""
        if self._connections is None:
            threads.endpoints.size = self.options.threads
            # Each would print, and keep, what a client has sent. A filter of the project's wins.
            for kind in (BadContentDispositionHeader, BadContentDispositionParam):
                warnings.simplefilter("ignore", kind, append=True)
            _refuse_plain_functions(self.app)
            _refuse_middlewares(self.app)
            self._handler_args.setdefault("keepalive_timeout", self.options.keepalive)
            log = logging.getLogger("gunicorn.access") if self.options.access_log else None
            runner = web.AppRunner(self.app, access_log=log, **self._logging_args())
            await runner.setup()
            # The runner has checked the arguments, and its server is replaced by ours.
            server = cast(AiohttpServer, runner.server)
            connections_class = _connections_class(self.app, self.options)
            connections = connections_class(
                self.app,
                replace(self.options, **self._limits),
                handler_cancellation=server.handler_cancellation,
                **server._kwargs,
            )
            _try_arguments(connections)
            self._connections = connections
        self._connections.acceptor.add(sock)

    def document(self) -> bytes | None:
        """Return the OpenAPI document of the application, indented, or None without one.

        ``api_hour.API`` has put it at ``DOCUMENT``; sub-applications are not searched.
        """
        made = self.app.get(DOCUMENT)
        return None if made is None else msgspec.json.format(made()) + b"\n"

    def _logging_args(self) -> dict[str, Any]:
        arguments = dict(self._handler_args)
        if skipped := self.options.access_log_skip:
            kind = arguments.get("access_log_class", AiohttpAccessLogger)
            arguments["access_log_class"] = without(kind, skipped)
        return arguments

    async def drain(self, deadline: float) -> None:
        """Answer requests in flight and what idle connections still send, then close.

        A connection is closed once it has been idle for ``options.drain_idle`` seconds, even if
        its last answer, begun before the drain, promised to keep it. All others are closed at
        ``deadline`` (``loop.time()``). The application's ``on_shutdown`` runs in between: it is the
        place to tell the peers of WebSockets in their own way. Those that are open after it are
        closed with 1012 (service restart).
        """
        connections = self._connections
        if connections is None:
            return
        connections.closing = True
        acceptor, loop = connections.acceptor, asyncio.get_running_loop()
        window = self.options.drain_idle
        try:
            await acceptor.close()
            await acceptor.emptied(min(loop.time() + window, deadline))
            connections.close_idle(loop.time() - window)
            await self.app.shutdown()
            while acceptor.open and loop.time() < deadline:
                connections.close_websockets(deadline)
                await acceptor.emptied(min(loop.time() + IDLE_CHECK, deadline))
                connections.close_idle(loop.time() - window)
            await threads.endpoints.finish(deadline)  # also of clients that have left
        finally:
            acceptor.give_up()
            await connections.websockets_closed(CANCEL_GRACE)
            await connections.shutdown(CANCEL_GRACE)
            await self.app.cleanup()


def _try_arguments(connections: Connections) -> None:
    """Raise ConfigError for an argument that no connection could be made with."""
    try:
        connections()
    except TypeError as error:
        reason = str(error).removeprefix("RequestHandler.__init__() got an ")
        raise ConfigError(
            f"HTTPServer() or Application(handler_args=...) got an {reason}: they take "
            "keepalive_timeout, header_timeout, body_timeout, body_min_rate, send_timeout, "
            "request_timeout, and the arguments of aiohttp's AppRunner"
        ) from error


def _connections_class(app: web.Application, options: ServerOptions) -> type[Connections]:
    """Return the class that makes connections.

    The only import of ``http/fast/`` outside that folder: without it, and without these lines, a
    correct server is left.
    """
    if options.fast:
        from api_hour.http.fast import usable
        from api_hour.http.fast.instrumentation import instrumented

        if usable() and not instrumented(app):
            from api_hour.http.fast.connection import FastConnections

            return FastConnections
    return Connections


def _refuse_plain_functions(app: web.Application) -> None:
    """Raise ConfigError for an endpoint that would block the loop."""
    if not isinstance(app.router, web.UrlDispatcher):  # a router of the project's own
        return
    for route in app.router.routes():
        wrapped = getattr(route.handler, "__wrapped__", None)
        by_aiohttp = getattr(route.handler, "__code__", None) is _aiohttp_wrapper_code()
        if by_aiohttp and not inspect.iscoroutinefunction(wrapped):
            raise ConfigError(
                f"endpoint {named(wrapped)} is a plain function, which would block every other "
                "request: write async def, or decorate it with @api_hour.threaded"
            )


def _refuse_middlewares(app: web.Application) -> None:
    """Raise ConfigError for a middleware that aiohttp would refuse at the first request."""
    for middleware in app.middlewares:
        if getattr(middleware, "__middleware_version__", None) != 1 and not _is_old(middleware):
            raise ConfigError(
                f"middleware {named(middleware)} is not one for aiohttp: write "
                "@web.middleware above `async def name(request, handler)`"
            )
    for subapp in app._subapps:
        _refuse_middlewares(subapp)


def _is_old(middleware: object) -> bool:
    """Return whether it can be a middleware of aiohttp 2, which takes ``(app, handler)``."""
    if not callable(middleware) or (
        inspect.isfunction(middleware) and not inspect.iscoroutinefunction(middleware)
    ):
        return False
    parameters = list(inspect.signature(middleware).parameters)
    return len(parameters) >= 2 and parameters[0] != "request"


def named(function: Any) -> str:
    """Return the name of a function of the project, and its place."""
    name = getattr(function, "__qualname__", repr(function))
    code = getattr(function, "__code__", None)
    return name + (f" ({os.path.relpath(code.co_filename)}:{code.co_firstlineno})" if code else "")


@functools.cache
def _aiohttp_wrapper_code() -> object:
    """Return the code object of the wrapper that aiohttp puts around a plain function."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        route = web.Application().router.add_get("/", cast(Any, print))
    return getattr(route.handler, "__code__", None)
