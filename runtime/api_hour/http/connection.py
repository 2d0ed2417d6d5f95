"""Connections: aiohttp's protocol with limits and a drain, and what those of one server share.

Everything here holds with the fast path and without it: ``http/fast/`` extends these two classes.
"""

import asyncio
import functools
import sys
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from aiohttp import WSCloseCode, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_websocket import WebSocketReader
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import ERROR, RequestHandler, RequestPayloadError, _ErrInfo
from aiohttp.web_server import Server as AiohttpServer

from api_hour.container import ServerOptions
from api_hour.http.compressed_body import CompressedBody
from api_hour.http.parser import COMPILED, MALFORMED, Parser, answer_to
from api_hour.http.proxy_headers import TrustedProxies
from api_hour.http.request import Request, body_error, has_left, is_of_client
from api_hour.http.request_checks import checked, refusal
from api_hour.http.time_limits import TimeLimits
from api_hour.http.websocket import FrameChecker
from api_hour.logs import observers, rate_limit
from api_hour.logs.request_id import Ids
from api_hour.servers import proxy_protocol
from api_hour.servers.acceptor import Acceptor
from api_hour.servers.proxy_protocol import Addresses
from api_hour.servers.time_limits import reset

if TYPE_CHECKING:
    from api_hour.http.metrics import RequestMetrics

rate_limit.limit("aiohttp.internal", "aiohttp.websocket", "api_hour.http.time_limits")
rate_limit.limit_tracebacks("aiohttp.server", "api_hour.http.errors")
REST_CHECK = 0.05  # seconds between two looks whether a WebSocket is at rest


class Connection(RequestHandler):
    """aiohttp's protocol, with our parser, a check of WebSocket frames, time limits and a drain."""

    __slots__ = (
        "_answer_writer",
        "_arriving",
        "_connections",
        "_header_timeout",
        "_idle_timeout",
        "_logs",
        "_websocket",
        "answer_limit",
        "client_named",
    )

    def __init__(self, connections: "Connections", **kwargs: Any) -> None:
        super().__init__(connections, **kwargs)
        # The parser may stop one message early, and then nobody would wake it up again.
        self._max_msg_queue_size -= 1
        self._connections = connections
        self._answer_writer: Any = None  # that of the last answer which aiohttp has sent
        self._arriving = 0.0  # since when the head of a request has been arriving; 0: it is not
        self.answer_limit: asyncio.Timeout | None = None  # of the request being served, if any
        self.client_named = True  # False behind a PROXY header that names nobody
        self._websocket: web.WebSocketResponse | None = None
        self._idle_timeout = self._keepalive_timeout
        self._logs = self._logging_enabled
        # aiohttp reads the clock for a request only with this flag; metrics need the time too.
        self._logging_enabled = self._logs or connections.metrics is not None
        if COMPILED:
            self._parser = Parser(self)
        # One timer serves both limits, so the shorter one holds before the first request.
        header_timeout = connections.options.header_timeout
        limits = [limit for limit in (header_timeout, self._idle_timeout) if limit > 0]
        self._header_timeout = min(limits, default=0.0)

    @property
    def closing(self) -> bool:
        """Return whether each answer is the last one of its connection."""
        return self._connections.closing

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the timer; remember the addresses, which a handler may ask for after the end."""
        self._keepalive_timeout = self._header_timeout
        self._next_keepalive_close_time = self._loop.time()  # if there is no limit
        super().connection_made(transport)
        _ = self.ssl_context, self.peername, self.sockname

    async def start(self) -> None:
        """Serve requests with the idle timeout in force.

        ``connection_made`` calls this after it has set the first timer, and aiohttp's ``start``
        copies the timeout in its first step: restoring it any later is too late.
        """
        self._keepalive_timeout = self._idle_timeout
        await super().start()
        self._end(self.transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Let go of the last answer, which refers to this connection."""
        self._answer_writer = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take in bytes; those that are no body and complete no request begin the next one.

        What comes in one segment with the end of a request is not seen to begin the next one:
        until more of it comes, the connection has the time of an idle one.
        """
        if self._payload_parser is not None or not data:  # a WebSocket's, or read before
            return super().data_received(data)
        count, request = self._request_count, self._current_request
        if request is None:
            at_rest = self._waiter is not None or count == 0
        else:
            at_rest = request._payload.is_eof()
        super().data_received(data)
        if self._request_count == count and at_rest:
            self._begin_to_arrive(data)
        else:
            self._arriving = 0.0
        return None

    def _begin_to_arrive(self, data: bytes) -> None:
        """Note that a part of a request's head has come, and limit the time of the rest."""
        if not self._arriving and data.strip(b"\r\n"):  # empty lines begin nothing
            header = self._connections.limits.header
            self._arriving = header.now()
            header.add(self, None)

    @property
    def arriving(self) -> float:
        """Return since when the head of a request has been arriving, 0 if none has begun."""
        return self._arriving

    @property
    def waits_for_request(self) -> bool:
        """Return whether no request is at work or queued."""
        return self._waiter is not None and not self._waiter.done() and not self._messages

    @property
    def reading_paused(self) -> bool:
        """Return whether the server itself does not read at the moment."""
        return self._reading_paused or self._buffer_paused

    def do_not_linger(self) -> None:
        """Close after this answer, without waiting for the rest of the request."""
        self._lingering_time = 0.0

    def begin_answer(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """Note that aiohttp is about to send an answer; a WebSocket may last.

        Raises RuntimeError if another answer has begun and not ended.
        """
        if self.answer_unfinished:
            raise RuntimeError(f"{request.method} {request.path}: an answer has already begun")
        if isinstance(response, web.WebSocketResponse):
            self._websocket = response
            if self.answer_limit is not None:
                self.answer_limit.reschedule(None)
        else:
            self._answer_writer = request.writer

    @property
    def answer_unfinished(self) -> bool:
        """Return whether a part of an answer has been sent, and not its end."""
        writer = self._answer_writer
        return writer is not None and writer.output_size > 0 and not writer._eof

    def take_websocket(self) -> web.WebSocketResponse | None:
        """Return the WebSocket of this connection, if there is one; only once."""
        websocket, self._websocket = self._websocket, None
        return websocket

    def pause_writing(self) -> None:
        """Limit the time in which the peer does not read."""
        super().pause_writing()
        self._limit_sending(self.transport)

    def force_close(self) -> None:
        """Close; what is still unsent is sent first, while the peer reads it."""
        transport = self.transport
        super().force_close()
        self._end(transport)

    def _end(self, transport: asyncio.Transport | None) -> None:
        """Reset a closing transport in mid-answer: its end would pass for the answer's."""
        if transport is not None and self.answer_unfinished:
            reset(transport)
        self._limit_sending(transport)  # which is closed once its buffer is empty

    def _limit_sending(self, transport: asyncio.Transport | None) -> None:
        self._connections.limits.sending.watch(transport)

    def _process_keepalive(self) -> None:
        """Close an idle connection; one that never sent a whole head has exceeded its limit."""
        closed = self._force_close
        super()._process_keepalive()
        if self._force_close and not closed and not self._request_count:
            self._connections.count_timeout("header")

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Read on, if reading is paused: aiohttp calls this after every piece of a body."""
        if self._reading_paused or self._buffer_paused:
            super().resume_reading(resume_parser)

    def close_idle(self, since: float) -> None:
        """Close if idle: no request at work, queued or arriving, and none since ``since``.

        ``since`` is in the loop's clock.
        """
        timeout = self._keepalive_timeout if self._request_count else self._header_timeout
        last_use = self._next_keepalive_close_time - timeout
        if self.waits_for_request and not self._arriving and last_use <= since:
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
            return refusal(*answer_to(cast(HttpProcessingError, err_info.exc)))

        return refuse

    async def _handle_request(
        self,
        request: web.BaseRequest,
        start_time: float | None,
        request_handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
    ) -> tuple[web.StreamResponse, bool]:
        """Serve a request; SystemExit and its like fail this request only.

        So does a CancelledError that is the endpoint's own: of another task that it awaited.
        """
        try:
            return await super()._handle_request(request, start_time, request_handler)
        except (Exception, GeneratorExit):
            raise
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and _is_cancelled(request):
                raise
            response = self.handle_error(request, 500, error)
        return await self.finish_response(request, response, start_time)

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

    def log_access(
        self, request: web.BaseRequest, response: web.StreamResponse, time: float | None
    ) -> None:
        """Count an answer, and log it; ``time`` is when the request began (``loop.time()``)."""
        if not self._logging_enabled or time is None:
            return
        try:
            seconds = monotonic() - (cast(Request, request)._started or time)
            metrics = self._connections.metrics
            if metrics is not None:
                route = cast(Request, request).route_name
                metrics.count(route, request.method, response.status, seconds)
            if self._logs and self.access_logger is not None:
                self.access_logger.log(request, response, seconds)
        except BaseException as error:  # a class of the project's own may raise anything
            observers.failed("log", error)

    def log_debug(self, *args: Any, **kwargs: Any) -> None:
        """Log what aiohttp has to say; never raises."""
        try:
            super().log_debug(*args, **kwargs)
        except BaseException as error:
            observers.failed("log", error)

    def log_exception(self, *args: Any, **kwargs: Any) -> None:
        """Log an error, unless it is that of a body which nobody has read; never raises."""
        try:
            if isinstance(kwargs.get("exc_info"), RequestPayloadError):
                self.logger.debug("Malformed body from %s", self.peername)
            else:
                super().log_exception(*args, **kwargs)
        except BaseException as error:
            observers.failed("log", error)


def _is_cancelled(request: web.BaseRequest) -> bool:
    """Return whether a request's task or its body was cancelled, or nobody is left to answer."""
    task = asyncio.current_task()
    body = request._payload.exception()  # where aiohttp's shutdown leaves a CancelledError
    return (
        has_left(request)
        or isinstance(body, asyncio.CancelledError)
        or (task is not None and task.cancelling() > 0)
    )


async def _close_websocket(websocket: web.WebSocketResponse, deadline: float) -> None:
    """Close a WebSocket when its handler waits for a message: what came before was served."""
    loop = asyncio.get_running_loop()
    # Nothing tells when a handler begins to wait.
    while not (websocket.closed or _at_rest(websocket)) and loop.time() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(REST_CHECK)
    await websocket.close(code=WSCloseCode.SERVICE_RESTART, message=b"service restart")


def _at_rest(websocket: web.WebSocketResponse) -> bool:
    return websocket._waiting and not cast(Any, websocket._reader)._buffer


class Connections(AiohttpServer):
    """The connections of one server: makes them, and knows when the last one is gone."""

    def __init__(self, app: web.Application, options: ServerOptions, **kwargs: Any) -> None:
        trusted = options.trusted_proxies
        proxies = TrustedProxies(trusted, options.proxy_headers) if trusted else None
        self.request_constants: dict[str, Any] = {"_proxies": proxies}
        kind = type("Request", (Request,), self.request_constants)
        inflates = kwargs.pop("auto_decompress", True)
        factory = functools.partial(_make_request, app, kind, inflates)
        self.ids = Ids() if options.request_ids else None
        self.options = options
        self.limits = TimeLimits(options, self.count_timeout)
        handle = self.limits.handler(checked(app._handle, self.ids, options.hosts))
        super().__init__(handle, request_factory=factory, auto_decompress=False, **kwargs)
        # Whether each answer is the last one of its connection: while the worker drains, or always.
        self.closing = kwargs.get("keepalive_timeout") == 0
        self.open: set[Connection] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self.metrics = self._make_metrics(options)
        self.acceptor = Acceptor(
            self,
            tls=options.tls,
            limit=options.max_connections,
            proxies=proxy_protocol.trusted(options),
            on_refusal=self.metrics.count_refusal if self.metrics else None,
        )

    def __call__(self, addresses: Addresses | None = None) -> Connection:
        """Return the protocol of a new connection; ``addresses``: those of its PROXY header."""
        connection = self._make_connection()
        if addresses is not None:
            connection._cache.update(peername=addresses.peer, sockname=addresses.local)
        elif self.options.proxy_protocol:
            connection.client_named = False
        return connection

    def _make_connection(self) -> Connection:
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

    def count_timeout(self, kind: str) -> None:
        """Count a time limit that was exceeded: header, body, request or send."""
        if self.metrics is not None:
            self.metrics.count_timeout(kind)

    def close_websockets(self, deadline: float) -> None:
        """Begin to close the WebSockets that are open, with 1012, as soon as they are at rest."""
        for connection in self.open:
            if websocket := connection.take_websocket():
                closing = self._loop.create_task(_close_websocket(websocket, deadline))
                self._closing.add(closing)
                closing.add_done_callback(self._closing.discard)

    async def websockets_closed(self, timeout: float) -> None:
        """Close all WebSockets that are left, within ``timeout`` seconds."""
        self.close_websockets(self._loop.time())
        if self._closing:
            _, late = await asyncio.wait(self._closing, timeout=timeout)
            for closing in late:
                closing.cancel()

    async def shutdown(self, timeout: float | None = None) -> None:
        """Close the connections, and watch none any more."""
        await super().shutdown(timeout)
        self.limits.close()

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
    inflates: bool,
    message: Any,
    payload: Any,
    protocol: RequestHandler,
    writer: Any,
    task: "asyncio.Task[None]",
) -> web.Request:
    """Return the request of a message; that of a parse error is made of our own."""
    if message is ERROR:
        message = MALFORMED
    elif inflates and message.compression and payload is not EMPTY_PAYLOAD:
        payload = CompressedBody(payload, message.compression)
    return app._make_request(message, payload, protocol, writer, task, _cls=kind)
