"""Fast connections: a complete, simple request is answered inside ``data_received``.

The theory of operation is in ``http/fast/__init__.py``.
"""

import asyncio
import sys
from asyncio import _enter_task, _leave_task
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from functools import partial
from time import monotonic
from typing import Any

from aiohttp import hdrs, web
from aiohttp.http import HttpVersion11
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import _PAYLOAD_ACCESS_ERROR, _ErrInfo

from api_hour.container import ServerOptions
from api_hour.http.connection import Connection, Connections
from api_hour.http.fast.request import FastRequest
from api_hour.http.fast.route_table import RouteTable
from api_hour.http.fast.task_pool import IDLE, PooledTask, Steps, TaskPool, resume, run_in_context
from api_hour.http.fast.writer import ResponseWriter
from api_hour.http.parser import Messages, Parser, Result
from api_hour.http.request import Request
from api_hour.http.request_checks import good_host, has_many_segments, is_ours
from api_hour.logs import request_id

# aiohttp's waiter and task of a connection, while a pooled task is at work in their place
Parked = tuple["asyncio.Future[None] | None", "asyncio.Task[None] | None"]

BATCH = 65536  # bytes of answers that are collected before they are written
EXPECT, HOST, TRANSFER_ENCODING = hdrs.EXPECT, hdrs.HOST, hdrs.TRANSFER_ENCODING
_new = object.__new__


class FastConnection(Connection):
    """aiohttp's protocol, which answers a simple request as soon as it has arrived."""

    __slots__ = ("_consumed", "_feed", "_host", "_parked", "_unsent")
    _connections: "FastConnections"
    _parser: Parser

    def __init__(self, connections: "FastConnections", **kwargs: Any) -> None:
        super().__init__(connections, **kwargs)
        # aiohttp's own, bound: looked up in our subclass, they would cost every request more.
        self._feed: Callable[[bytes], Result] = super(Parser, self._parser).feed_data
        self._consumed: Callable[[], None] = self._parser.message_consumed
        self._host: str | None = None  # the last good one: clients send the same again and again
        self._parked: Parked | None = None
        self._unsent = b""  # answers that wait for the end of their batch

    def start(self) -> Coroutine[Any, Any, None]:
        """Wait for requests from now on, as aiohttp does where tasks can start eagerly.

        Before Python 3.12 the first request often arrives before the task that waits for it has
        had its first turn; so that task's first step is taken here.
        """
        steps = super().start()
        return steps if sys.version_info >= (3, 12) else resume(steps.send(None), steps)

    def data_received(self, data: bytes) -> None:
        """Take in bytes; answer the simple requests among them."""
        if (
            self._waiter is None  # aiohttp or a pooled task is at work on a request
            or self._messages  # earlier requests come first
            or self._paused  # the peer does not read its answers
            or self._close
            or self._force_close
            or not data  # aiohttp parses again what its parser had kept back
        ):
            return super().data_received(data)
        try:
            messages, upgraded, _ = outcome = self._feed(data)
        except HttpProcessingError as error:
            return self._answer_batch(data, error)
        if len(messages) != 1 or upgraded:
            return self._answer_batch(data, outcome)
        message, payload = messages[0]
        answer = self._answer(message, payload)
        if answer is None:
            return self._answer_batch(data, outcome)
        self._arriving = 0.0
        if answer and self.transport is not None:
            self.transport.write(answer)
        return None

    def _answer_batch(self, data: bytes, outcome: Result | HttpProcessingError) -> None:
        """Answer pipelined requests with one write, up to the first that must wait."""
        messages, upgraded, tail = self._parser.settle(data, outcome, between=True)
        if messages:
            self._arriving = 0.0
        else:
            self._begin_to_arrive(data)
        served = 0
        if not upgraded and len(messages) < self._max_msg_queue_size:
            for message, payload in messages:
                if type(message) is _ErrInfo:
                    break
                answer = self._answer(message, payload)
                if answer is None:
                    break
                served += 1
                self._unsent += answer
                if len(self._unsent) > BATCH:
                    self.flush()
                if self._waiter is None or self._paused or self._force_close:
                    break
            self.flush()
        if served < len(messages) and not self._force_close:
            self._leave_to_aiohttp(messages[served:], upgraded, tail)

    def _leave_to_aiohttp(self, messages: Messages, upgraded: bool, tail: bytes) -> None:
        """Queue requests for aiohttp's own loop, and wake it, as its data_received does."""
        self._request_count += len(messages)
        self._messages.extend(messages)
        if len(self._messages) >= self._max_msg_queue_size:
            self._pause_reading_for_buffer()
        self._upgraded, self._message_tail = upgraded, tail
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # In one function, because each call into another costs every request: to move its last part
    # into one cost 1.5 % more instructions (callgrind, Python 3.11, 2026-11-27).
    def _answer(self, message: Any, payload: StreamReader) -> bytes | None:  # noqa: C901, PLR0912, PLR0915
        """Serve one request.

        Return the bytes of its answer; ``b""`` if they are written elsewhere or later; or
        None if the request is left to aiohttp: nothing has happened to it then.
        """
        shared, headers, url = self._connections, message.headers, message.url
        host = headers.get(HOST)
        if (
            EXPECT in headers
            or TRANSFER_ENCODING in headers
            # A body is still arriving, or compressed.
            or (payload is not EMPTY_PAYLOAD and (not payload.is_eof() or message.compression))
            or (host != self._host and not self._is_good_host(host))
            or url._netloc  # an absolute URL
            or message.version is not HttpVersion11
            or message.upgrade
        ):
            return None
        method, path, waiting = message.method, url._path, shared.task_pool.waiting
        found = shared.plain.get(method + path) or shared.find(method, path)
        if not waiting:
            shared.task_pool.grow()
            return None
        if found is None and (path.startswith(shared.always_suspending) or has_many_segments(path)):
            return None
        pooled, loop = waiting[-1], self._loop
        task = pooled.task
        try:
            _enter_task(loop, task)
        except RuntimeError:  # another task is running: it called data_received
            return None
        # From here on the request is served; every statement that fails must still answer it.
        request: FastRequest = _new(shared.request_class)
        request._message = message
        request._payload = payload
        request._connection = self
        request._task = task
        request._found = found
        request._cache = {}
        # monotonic() is what both loops read as their time(), but with a finer resolution.
        start, context = monotonic(), copy_context()
        if shared.ids is not None:
            request._id = identity = shared.ids.of(headers.get(request_id.HEADER))
            context.run(request_id.current.set, identity)
        self._request_count += 1
        shared.requests_count += 1
        self._consumed()
        try:
            handle = shared.handle if found is None else found[0].handler
            step = context.run(pooled.send, handle(request))
        except BaseException as exc:  # calling the handler failed, before its coroutine began
            step, pooled.error = IDLE, exc
        finally:
            _leave_task(loop, task)
        response, data = pooled.outcome, None
        if (
            step is IDLE
            and pooled.error is None
            and not self._close
            and (self._answer_writer is None or not self._has_answered(request))
        ):
            data = shared.render(request, response)
        if data is None:
            pooled.step = step
            return self._finish_in_aiohttp(pooled, context, request, start)
        request._task = pooled.outcome = None  # type: ignore[assignment]  # break the cycles
        if self._logs:
            response._body_length = len(data)
            context.run(self.log_access, request, response, start)
        elif shared.metrics is not None:
            name = request.route_name if found is None else found[0].name
            shared.metrics.count(name, method, response._status, monotonic() - start)
        if payload is not EMPTY_PAYLOAD:
            if request._post is not None:
                request._finish()
            payload.set_exception(_PAYLOAD_ACCESS_ERROR)
        self._restart_keepalive(start)
        return data

    def _has_answered(self, request: web.BaseRequest) -> bool:
        """Return whether the handler has sent an answer by itself; aiohttp knows what then."""
        return self._answer_writer is not None and self._answer_writer is request.writer

    def _is_good_host(self, host: str | None) -> bool:
        good = good_host(host) and is_ours(host, self._connections.options.hosts)
        if good:
            self._host = host
        return good

    def _finish_in_aiohttp(
        self, pooled: PooledTask, context: Context, request: FastRequest, start: float
    ) -> bytes:
        """Finish a request through aiohttp's own code: at once, or in the task if that suspends.

        ``pooled.step`` is what the handler waits for, or IDLE when it has returned or raised.
        """
        handle: Any = pooled.remaining_steps
        found = request._found
        if found is not None and found[0].rescue is not None:
            handle = partial(found[0].rescue, handler=handle)
        if self._connections.options.request_timeout and pooled.step is not IDLE:
            handle = partial(self._connections.limits.within, handle)
        steps: Steps = self._handle_as_aiohttp(request, start, handle)
        if pooled.step is IDLE:
            pooled.take_first_step(steps, context)
            if pooled.step is IDLE:
                if pooled.error is not None:  # CancelledError and the like belong in a task
                    pooled.hand_over_to_task(pooled.remaining_steps())
                return b""
            steps = pooled.remaining_steps()
        # With no waiter the connection counts as busy, for data_received and for the timers; and
        # a disconnect or a shutdown cancels the task that does the work.
        self._parked = self._waiter, self._task_handler
        self._waiter, self._task_handler = None, pooled.task
        pooled.hand_over_to_task(run_in_context(context, steps))
        return b""

    async def _handle_as_aiohttp(self, request: Request, start: float, handle: Any) -> None:
        """Do for one request what RequestHandler.start does for each."""
        keep = False
        try:
            response, reset = await self._handle_request(request, start, handle)
            keep = bool(response.keep_alive) and not reset
        except (ConnectionError, asyncio.CancelledError) as exc:
            self.log_debug("Ignored premature client disconnection")
            if isinstance(exc, asyncio.CancelledError):
                raise
        except Exception as exc:
            self.log_exception("Unhandled exception", exc_info=exc)
        finally:
            request._task = None  # type: ignore[assignment]  # break a cycle, as aiohttp does
            request._payload.set_exception(_PAYLOAD_ACCESS_ERROR)
            self._become_idle(keep)

    def _become_idle(self, keep: bool) -> None:
        """Wait for the next request, or close."""
        if self._parked:
            (self._waiter, starter), self._parked = self._parked, None
            self._task_handler = starter if self._manager else None  # None: the peer has left
        if not keep or self._close or self._force_close:
            self.flush()
            self.force_close()
            return
        self._answer_writer = None
        self._restart_keepalive(self._loop.time())
        if self._messages and self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    def _restart_keepalive(self, now: float) -> None:
        """Start the keep-alive time again, as aiohttp does; a timer that runs is kept."""
        self._keepalive = True
        self._next_keepalive_close_time = close = now + self._keepalive_timeout
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(close, self._process_keepalive)

    def flush(self) -> bool:
        """Write the answers of the batch; return whether the peer is still there."""
        data, self._unsent = self._unsent, b""
        if self.transport is None or self.transport.is_closing():
            return False
        if data:
            self.transport.write(data)
        return True

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send a response with one write where that is possible."""
        data = None
        if (
            request._message.version is HttpVersion11
            and not self._upgraded
            and not self._has_answered(request)
        ):
            data = self._connections.render(request, resp, raised=True)
        if data is None:
            return await super().finish_response(request, resp, start_time)
        request._finish()
        resp._body_length = len(data)
        self._unsent += data
        reset = not self.flush()
        if self._paused:
            await self._drain_helper()
        self.log_access(request, resp, start_time)
        return resp, reset


class FastConnections(Connections):
    """The connections of one server, and what they share to be fast."""

    def __init__(self, app: web.Application, options: ServerOptions, **kwargs: Any) -> None:
        super().__init__(app, options, **kwargs)
        self.handle = app._handle
        routes = RouteTable(app)
        self.plain, self.find = routes.plain, routes.find
        self.always_suspending = routes.always_suspending
        self.render = ResponseWriter(self, app).render
        self.task_pool = TaskPool(self._loop)
        self.task_pool.grow()
        limits = ("_client_max_size", "_client_max_fields")
        constants = {"_loop": self._loop} | {name: getattr(app, name) for name in limits}
        constants |= self.request_constants
        self.request_class = type("Request", (FastRequest,), constants)

    def _make_connection(self) -> FastConnection:
        return FastConnection(self, loop=self._loop, **self._kwargs)

    async def shutdown(self, timeout: float | None = None) -> None:
        """Close the connections as aiohttp does, then end the tasks that wait for requests."""
        await super().shutdown(timeout)
        self.task_pool.close()
