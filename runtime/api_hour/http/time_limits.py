"""The time limits of HTTP: for a request's head, its body, a whole answer, and the peer's reading.

=========== ============================================ ==================================
kind        what may take too long                       the end
=========== ============================================ ==================================
``header``  the head of a request                        the connection is closed
``body``    the body of the request being served         408, and the connection is closed
``request`` the answer, from the request's head on      504; if it has begun, it is aborted
``send``    the peer's reading of an answer              the connection is aborted
=========== ============================================ ==================================

An answer that has begun cannot become another one. It is aborted, by a reset: the end of the
stream would pass for the end of an answer without a length.

A request whose body is complete and whose answer has no time limit, on a connection whose peer
reads, passes ``handler`` without a coroutine or a timer.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, cast

from aiohttp import web

from api_hour.container import ServerOptions
from api_hour.http.responses import describe
from api_hour.servers.time_limits import SendTimeout, Watch, reset

Handle = Callable[[Any], Awaitable[web.StreamResponse]]
logger = logging.getLogger(__name__)


class Connection(Protocol):
    """What the limits know of a connection."""

    answer_limit: asyncio.Timeout | None

    @property
    def arriving(self) -> float:
        """Return since when the head of a request has been arriving, 0 if none has begun."""

    @property
    def connected(self) -> bool:
        """Return whether the peer is there."""

    @property
    def waits_for_request(self) -> bool:
        """Return whether no request is at work or queued."""

    @property
    def writing_paused(self) -> bool:
        """Return whether the peer does not read."""

    @property
    def reading_paused(self) -> bool:
        """Return whether the server does not read."""

    async def _drain_helper(self) -> None:
        """Wait until the peer reads; raises ConnectionError when it has left."""

    def do_not_linger(self) -> None:
        """Close after this answer, without waiting for the rest of the request."""

    def force_close(self) -> None:
        """Close."""


class TimeLimits:
    """The time limits of one server; ``count`` is told the kind of each that was exceeded."""

    def __init__(self, options: ServerOptions, count: Callable[[str], None]) -> None:
        self._count = count
        self.request_timeout = options.request_timeout
        self.header = HeaderTimeout(options.header_timeout, lambda: count("header"))
        self.body = BodyTimeout(options.body_timeout, options.body_min_rate, lambda: count("body"))
        self.sending = SendTimeout(options.send_timeout, lambda: count("send"))

    def close(self) -> None:
        """Watch nothing any more."""
        for watch in (self.header, self.body, self.sending):
            watch.close()

    def handler(self, handle: Handle) -> Handle:
        """Return ``handle`` within the limits of each request."""

        def handle_in_time(request: web.Request) -> Awaitable[web.StreamResponse]:
            simple = request._payload.is_eof() and not request.protocol.writing_paused
            if simple and not self.request_timeout:
                return handle(request)
            return self._handle_in_time(handle, request)

        return handle_in_time

    async def _handle_in_time(self, handle: Handle, request: web.Request) -> web.StreamResponse:
        connection = _connection(request)
        if connection.writing_paused:
            await _peer_reads(connection)
        return await self.within(handle, request)

    async def within(self, handle: Handle, request: web.Request) -> web.StreamResponse:
        """Run ``handle`` until the request's time is over; a WebSocket's never is."""
        connection = _connection(request)
        limit = connection.answer_limit = asyncio.timeout(self.request_timeout or None)
        receiving = None if request._payload.is_eof() else Receiving(request, self.body, limit)
        try:
            async with limit:
                return await handle(request)
        except TimeoutError:
            if not limit.expired():  # the handler's own
                raise
        finally:
            connection.answer_limit = None
            self.body.discard(connection)
            _free_body(request)
        begun = _abort_if_begun(request)
        if receiving is None or not receiving.late:
            self._count("request")
            logger.warning(
                "%s: %s within %g seconds (request_timeout)",
                describe(request),
                "the rest of the answer did not come" if begun else "no answer",
                self.request_timeout,
            )
        if begun:
            raise asyncio.CancelledError  # there is nothing more to send
        if receiving is not None and receiving.late:
            raise _request_timeout()
        raise web.HTTPGatewayTimeout(text="504: The answer took too long")


def _connection(request: web.BaseRequest) -> Connection:
    return cast(Connection, request.protocol)


async def _peer_reads(connection: Connection) -> None:
    """Wait until the peer has read what was sent: answers do not pile up behind it."""
    with contextlib.suppress(ConnectionError):
        await connection._drain_helper()
    if not connection.connected:
        raise asyncio.CancelledError  # there is nobody to answer


def _abort_if_begun(request: web.BaseRequest) -> bool:
    """Abort the connection if a part of the answer has been sent; return whether it has."""
    begun = bool(cast(Any, request._payload_writer).output_size)
    if begun and request.transport is not None:
        reset(request.transport)
    return begun


def _free_body(request: web.BaseRequest) -> None:
    """Free what was read of a body that did not come to its end.

    The error that the reader was raised refers to its frames, and they to the error. Such a cycle
    lasts until Python looks for garbage, which an idle worker seldom does.
    """
    error = request._payload.exception()
    if error is not None:
        error.__traceback__ = None


def _request_timeout() -> web.HTTPRequestTimeout:
    error = web.HTTPRequestTimeout(text="408: The body of the request did not come in time")
    error.force_close()
    return error


class HeaderTimeout(Watch[Connection, None]):
    """Closes a connection on which the head of a request takes more than ``limit`` seconds.

    The time counts from its first byte, and only a complete head ends it.
    """

    def check(self, connection: Connection, _: None, now: float) -> None:
        """Close the connection if its head is overdue; a request being served comes first."""
        if not connection.arriving or not connection.connected:
            self.discard(connection)
        elif now - connection.arriving >= self.limit and connection.waits_for_request:
            self.strike(connection)
            connection.force_close()


class Receiving:
    """A body that is arriving: how much of it has come, and since when nothing has."""

    __slots__ = ("answer_limit", "begun", "late", "looked", "received", "request", "since")

    def __init__(
        self, request: web.BaseRequest, timeout: "BodyTimeout", answer_limit: asyncio.Timeout
    ) -> None:
        self.request, self.answer_limit = request, answer_limit
        self.begun = self.looked = self.since = timeout.now()
        self.received = 0
        self.late = False
        timeout.add(_connection(request), self)


class BodyTimeout(Watch[Connection, Receiving]):
    """Ends a request whose body does not come: nothing for ``limit`` seconds, or below ``rate``.

    ``rate``: bytes a second, on average, after the first ``limit`` seconds. The time stands still
    while the server does not read, because the handler has not taken what is there.

    A handler that waits for the body is raised HTTPRequestTimeout where it waits, so that its
    middlewares see it; any other is cancelled.
    """

    def __init__(self, limit: float, rate: int, on_strike: Callable[[], None]) -> None:
        super().__init__(limit, on_strike)
        self._rate = rate

    def check(self, connection: Connection, receiving: Receiving, now: float) -> None:
        """End the request if its body is overdue."""
        payload = receiving.request._payload
        if payload.is_eof() or payload.exception() is not None:
            self.discard(connection)
            return
        passed, receiving.looked = now - receiving.looked, now
        if connection.reading_paused:
            receiving.begun += passed
            receiving.since += passed
        received = payload.total_raw_bytes
        if received > receiving.received:
            receiving.received, receiving.since = received, now
        due = self._rate * (now - receiving.begun - self.limit)
        if now - receiving.since >= self.limit or received < due:
            self.strike(connection)
            self._end(receiving)

    def _end(self, receiving: Receiving) -> None:
        request = receiving.request
        receiving.late = True
        _connection(request).do_not_linger()
        if _abort_if_begun(request):
            return
        waiting = request._payload._waiter is not None
        request._payload.set_exception(_request_timeout())
        if not waiting:
            receiving.answer_limit.reschedule(asyncio.get_running_loop().time())
