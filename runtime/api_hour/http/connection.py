"""Connections: aiohttp's protocol with a drain, and what the connections of one server share.

Everything here holds with the fast path and without it: ``http/fast/`` extends these two classes.
"""

import asyncio
import functools
import sys
from collections.abc import Awaitable, Callable, Coroutine
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from aiohttp import web
from aiohttp.http_websocket import WebSocketReader
from aiohttp.web_protocol import (
    ERROR,
    MAX_MSG_QUEUE_SIZE,
    RequestHandler,
    RequestPayloadError,
    _ErrInfo,
)
from aiohttp.web_server import Server as AiohttpServer

from api_hour.container import ServerOptions
from api_hour.http.parser import MALFORMED, Parser
from api_hour.http.proxy_headers import TrustedProxies
from api_hour.http.request import Request, body_error, has_left, is_of_client
from api_hour.http.request_checks import checked, refusal
from api_hour.http.websocket import FrameChecker
from api_hour.logs.request_id import Ids
from api_hour.servers.acceptor import Acceptor

if TYPE_CHECKING:
    from api_hour.http.metrics import RequestMetrics


class Connection(RequestHandler):
    """aiohttp's protocol, with a time limit for the first request, and a drain."""

    __slots__ = ("_arriving", "_connections", "_header_timeout", "_idle_timeout", "_logs")

    def __init__(self, connections: "Connections", *, header_timeout: float, **kwargs: Any) -> None:
        super().__init__(connections, **kwargs)
        # The parser may stop one message early, and then nobody would wake it up again.
        self._max_msg_queue_size -= 1
        self._connections = connections
        self._arriving = False  # a request has begun to arrive, and is not complete
        self._idle_timeout = self._keepalive_timeout
        self._logs = self._logging_enabled
        # aiohttp reads the clock for a request only with this flag; metrics need the time too.
        self._logging_enabled = self._logs or connections.metrics is not None
        self._parser = Parser(
            self,
            self._loop,
            self._read_bufsize,
            max_line_size=self.max_line_size,
            max_field_size=self.max_field_size,
            max_headers=self.max_headers,
            payload_exception=RequestPayloadError,
            auto_decompress=kwargs.get("auto_decompress", True),
            max_msg_queue_size=MAX_MSG_QUEUE_SIZE,
        )
        # One timer serves both limits, so the shorter one holds before the first request.
        limits = [limit for limit in (header_timeout, self._idle_timeout) if limit > 0]
        self._header_timeout = min(limits, default=0.0)

    @property
    def draining(self) -> bool:
        """Return whether the worker has stopped accepting."""
        return self._connections.draining

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the timer; remember the addresses, which a handler may ask for after the end."""
        self._keepalive_timeout = self._header_timeout
        super().connection_made(transport)
        _ = self.ssl_context, self.peername, self.sockname

    def start(self) -> Coroutine[Any, Any, None]:
        """Serve requests with the idle timeout in force.

        ``connection_made`` calls this after it has set the first timer. The first step of aiohttp's
        ``start`` copies the timeout, and runs within this call or before ``connection_made``
        returns where tasks start eagerly: restoring the timeout any later is too late.
        """
        self._keepalive_timeout = self._idle_timeout
        return super().start()

    def data_received(self, data: bytes) -> None:
        """Take in bytes; those that are no body and complete no request begin the next one."""
        count, request = self._request_count, self._current_request
        if request is None:
            at_rest = self._waiter is not None or count == 0
        else:
            at_rest = request._payload.is_eof()
        super().data_received(data)
        self._arriving = bool(data) and self._request_count == count and at_rest

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Read on, if reading is paused: aiohttp calls this after every piece of a body."""
        if self._reading_paused or self._buffer_paused:
            super().resume_reading(resume_parser)

    def close_idle(self, since: float) -> None:
        """Close if idle: no request at work, queued or arriving, and none since ``since``.

        ``since`` is in the loop's clock.
        """
        waiting = self._waiter is not None and not self._waiter.done()
        timeout = self._keepalive_timeout if self._request_count else self._header_timeout
        last_use = self._next_keepalive_close_time - timeout
        if waiting and not self._messages and not self._arriving and last_use <= since:
            self.force_close()

    def set_parser(
        self, parser: WebSocketReader, data_received_cb: Callable[[], None] | None = None
    ) -> None:
        """Let a WebSocket read what arrives, once it is checked."""
        known = isinstance(parser, WebSocketReader)
        reader = cast(WebSocketReader, FrameChecker(parser)) if known else parser
        super().set_parser(reader, data_received_cb)

    def _make_error_handler(
        self, err_info: _ErrInfo
    ) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
        """Return what answers a malformed request.

        Any client can send one, and many: they are seen in the access log and the metrics, and
        take one line without a traceback where somebody looks for them.
        """

        async def refuse(request: web.BaseRequest) -> web.StreamResponse:
            self.logger.debug("Malformed request from %s: %r", request.remote, err_info.exc)
            return refusal(err_info.status, err_info.message)

        return refuse

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what a handler raised; what only the client can have caused is not logged.

        Raises ConnectionError where nobody is left to be answered.
        """
        error = exc or sys.exception()
        if error is None or not is_of_client(request, error):
            return super().handle_error(request, status, exc, message)
        self.logger.debug("The client failed a request from %s: %r", request.remote, error)
        if has_left(request) or request.writer.output_size > 0:
            raise ConnectionError("Nobody is left to be answered") from error
        return refusal(*body_error(error))

    def log_exception(self, *args: Any, **kwargs: Any) -> None:
        """Log an error, unless it is that of a body which nobody has read."""
        if isinstance(kwargs.get("exc_info"), RequestPayloadError):
            self.logger.debug("Malformed body from %s", self.peername)
        else:
            super().log_exception(*args, **kwargs)

    def log_access(
        self, request: web.BaseRequest, response: web.StreamResponse, time: float | None
    ) -> None:
        """Count an answer, and log it; ``time`` is when the request began (``loop.time()``)."""
        if not self._logging_enabled or time is None:
            return
        seconds = monotonic() - (cast(Request, request)._started or time)
        metrics = self._connections.metrics
        if metrics is not None:
            route = cast(Request, request).route_name
            metrics.count(route, request.method, response.status, seconds)
        if self._logs and self.access_logger is not None:
            self.access_logger.log(request, response, seconds)


class Connections(AiohttpServer):
    """The connections of one server: makes them, and knows when the last one is gone."""

    def __init__(self, app: web.Application, options: ServerOptions, **kwargs: Any) -> None:
        proxies = TrustedProxies(options.trusted_proxies) if options.trusted_proxies else None
        self.request_constants: dict[str, Any] = {"_proxies": proxies}
        kind = type("Request", (Request,), self.request_constants)
        factory = functools.partial(_make_request, app, kind)
        self.ids = Ids() if options.request_ids else None
        super().__init__(checked(app._handle, self.ids), request_factory=factory, **kwargs)
        self.draining = False
        self.open: set[Connection] = set()
        self.metrics = self._make_metrics(options)
        self.acceptor = Acceptor(self, tls=options.tls, limit=options.max_connections)

    def __call__(self) -> Connection:
        """Return the protocol of a new connection."""
        return Connection(self, loop=self._loop, **self._kwargs)

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        """Add a connection."""
        super().connection_made(handler, transport)
        self.open.add(cast(Connection, handler))

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        """Remove a connection."""
        super().connection_lost(handler, exc)
        self.open.discard(cast(Connection, handler))
        self.acceptor.release()

    def close_idle(self, since: float) -> None:
        """Close the connections that have been idle since ``since`` (``loop.time()``)."""
        for connection in list(self.open):
            connection.close_idle(since)

    def _make_metrics(self, options: ServerOptions) -> "RequestMetrics | None":
        if not options.metrics:
            return None
        from api_hour.http.metrics import (
            RequestMetrics,  # needs prometheus_client, which is an extra
        )

        return RequestMetrics(self.open, options.listener)


def _make_request(
    app: web.Application,
    kind: type[Request],
    message: Any,
    payload: Any,
    protocol: RequestHandler,
    writer: Any,
    task: "asyncio.Task[None]",
) -> web.Request:
    """Return the request of a message; that of a parse error is made of our own."""
    if message is ERROR:
        message = MALFORMED
    return app._make_request(message, payload, protocol, writer, task, _cls=kind)
