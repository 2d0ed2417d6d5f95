"""One connection: aiohttp's protocol, a time limit for its first request, and a drain.

Knows its hub, which makes it and tells whether the worker drains.
"""

import asyncio
from collections.abc import Coroutine
from time import monotonic
from typing import Any, cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from api_hour.http.request import Request


class Connection(RequestHandler):
    """Be aiohttp's protocol, and know whether a request has begun to arrive."""

    __slots__ = ("_begun", "_header_timeout", "_hub", "_idle_timeout", "_logs")

    def __init__(self, hub: Any, *, header_timeout: float, **kwargs: Any) -> None:
        super().__init__(hub, **kwargs)
        self._max_msg_queue_size -= 1  # the parser may stop one earlier, and nobody would go on
        self._hub = hub
        self._begun = False
        self._idle_timeout = self._keepalive_timeout
        limits = [one for one in (header_timeout, self._idle_timeout) if one > 0]
        self._logs = self._logging_enabled
        self._logging_enabled = self._logs or hub.meter is not None  # both need the time
        self._header_timeout = min(limits, default=0.0)  # one timer serves both

    @property
    def draining(self) -> bool:
        """Tell whether the worker accepts no more."""
        return bool(self._hub.draining)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the clock; remember the peer, as a handler may ask for it when it has left."""
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
        self._begun = bool(data) and self._request_count == count and at_rest

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Read on; aiohttp asks for it after every piece of a body."""
        if self._reading_paused or self._buffer_paused:
            super().resume_reading(resume_parser)

    def close_idle(self, since: float) -> None:
        """Close when no request is here, none has begun to arrive, nor has since ``since``."""
        waiting = self._waiter is not None and not self._waiter.done()
        timeout = self._keepalive_timeout if self._request_count else self._header_timeout
        last_use = self._next_keepalive_close_time - timeout
        if waiting and not self._messages and not self._begun and last_use <= since:
            self.force_close()

    def log_access(
        self, request: web.BaseRequest, response: web.StreamResponse, time: float | None
    ) -> None:
        """Count an answer, and log it; ``time`` is when it was asked for, in the loop's clock."""
        if not self._logging_enabled or time is None:
            return
        seconds = monotonic() - (cast(Request, request)._started or time)
        if self._hub.meter is not None:
            route = cast(Request, request).route_name
            self._hub.meter.count(route, request.method, response.status, seconds)
        if self._logs and self.access_logger is not None:
            self.access_logger.log(request, response, seconds)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Tell the hub, which may wait for the last one."""
        super().connection_lost(exc)
        self._hub.lost(self)
