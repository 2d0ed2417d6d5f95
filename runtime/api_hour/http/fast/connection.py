"""The fast HTTP path: a complete, simple request is answered inside ``data_received``.

It may only be quicker, never different: what is not simple goes down aiohttp's own path, through
aiohttp's own code. It rests on aiohttp's internals, hence ``TESTED``.
"""

import logging
import re
from asyncio import _enter_task, _leave_task
from collections.abc import Sequence
from contextvars import copy_context
from functools import cache
from time import monotonic
from typing import Any

import aiohttp
from aiohttp import hdrs, http_parser, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import _PAYLOAD_ACCESS_ERROR, RequestHandler, _ErrInfo

from api_hour.http.fast.carrier import Carrier
from api_hour.http.fast.request import FastRequest
from api_hour.http.fast.route_table import Routes
from api_hour.http.fast.task_pool import IDLE, Spares
from api_hour.http.fast.writer import Blocks
from api_hour.http.request_checks import good_host
from api_hour.logs import request_id

Messages = Sequence[tuple[Any, StreamReader]]

TESTED = ((3, 14, 5), (3, 15))  # versions of aiohttp: from, and up to
BATCH = 65536  # bytes of answers that are collected before they are written
EXPECT, HOST, TRANSFER_ENCODING = hdrs.EXPECT, hdrs.HOST, hdrs.TRANSFER_ENCODING
_new = object.__new__
logger = logging.getLogger(__name__)


@cache
def usable() -> bool:
    """Tell whether the fast path knows this aiohttp; warn when it does not."""
    version = tuple(int(part) for part in re.findall(r"\d+", aiohttp.__version__)[:3])
    compiled = http_parser.HttpRequestParser is not http_parser.HttpRequestParserPy
    if compiled and TESTED[0] <= version < TESTED[1]:
        return True
    without = "" if compiled else " without its C parser"
    logger.warning("No fast path for aiohttp %s%s: its own is used", aiohttp.__version__, without)
    return False


class FastPath:
    """Hold what the connections of one server share."""

    def __init__(self, hub: Any, app: web.Application) -> None:
        self.handle = app._handle
        routes = Routes(app)
        self.plain, self.find, self.left = routes.plain, routes.find, routes.left
        self.render = Blocks(hub, app).render
        self.ids, self.meter = hub.ids, hub.meter
        self.spares = Spares(hub._loop)
        self.spares.grow()
        limits = ("_client_max_size", "_client_max_fields")
        constants = {"_loop": hub._loop} | {name: getattr(app, name) for name in limits}
        constants |= hub.request_constants
        self.request = type("Request", (FastRequest,), constants)


class FastConnection(Carrier):
    """Be aiohttp's protocol, and answer a simple request as soon as it is here."""

    __slots__ = ("_host",)

    def __init__(self, hub: Any, **kwargs: Any) -> None:
        super().__init__(hub, **kwargs)
        self._host: str | None = None  # the last one, which was good

    def data_received(self, data: bytes) -> None:
        """Take in bytes; answer the simple requests among them."""
        if (
            self._waiter is None
            or self._messages
            or self._paused
            or self._close
            or self._force_close
            or not data
        ):
            if self._payload_parser is not None:  # a WebSocket's
                return RequestHandler.data_received(self, data)
            return super().data_received(data)
        try:
            messages, upgraded, tail = self._parser.feed_data(data)  # type: ignore[union-attr]
        except HttpProcessingError as exc:
            error = _ErrInfo(status=400, exc=exc, message=exc.message)
            return self._queue([(error, EMPTY_PAYLOAD)], False, b"")
        if len(messages) != 1 or upgraded:
            return self._batch(messages, upgraded, tail)
        self._begun = False
        message, payload = messages[0]
        block = self._answer(message, payload)
        if block is None:
            self._queue(messages, False, b"")
        elif block and self.transport is not None:
            self.transport.write(block)
        return None

    def _batch(self, messages: Messages, upgraded: bool, tail: bytes) -> None:
        """Answer several requests with one write, or none."""
        self._begun = not messages
        served = 0
        if not upgraded and len(messages) < self._max_msg_queue_size:
            for message, payload in messages:
                block = self._answer(message, payload)
                if block is None:
                    break
                served += 1
                self._out += block
                if len(self._out) > BATCH:
                    self.flush()
                if self._waiter is None or self._paused or self._force_close:
                    break
            self.flush()
        if served < len(messages) and not self._force_close:
            self._queue(messages[served:], upgraded, tail)

    def _queue(self, messages: Messages, upgraded: bool, tail: bytes) -> None:
        """Leave requests to aiohttp's own loop, as its data_received does."""
        self._request_count += len(messages)
        self._messages.extend(messages)
        if len(self._messages) >= self._max_msg_queue_size:
            self._pause_reading_for_buffer()
        self._upgraded, self._message_tail = upgraded, tail
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _answer(self, message: Any, payload: StreamReader) -> bytes | None:
        """Serve one request; return what goes out, or None when it is left to aiohttp."""
        hub, headers, url = self._hub, message.headers, message.url
        fast: FastPath = hub.fast
        host = headers.get(HOST)
        if (
            EXPECT in headers
            or TRANSFER_ENCODING in headers
            or (payload is not EMPTY_PAYLOAD and not payload.is_eof())
            or (host != self._host and not self._trust(host))
            or url._netloc
        ):
            return None
        method, path, waiting = message.method, url._path, fast.spares.waiting
        found = fast.plain.get(method + path) or fast.find(method, path)
        if not waiting or (found is None and path.startswith(fast.left)):
            fast.spares.grow()
            return None
        spare, loop = waiting[-1], self._loop
        task = spare.task
        try:
            _enter_task(loop, task)
        except RuntimeError:  # called from inside of a task
            return None
        request: FastRequest = _new(fast.request)
        request._message = message
        request._payload = payload
        request._connection = self
        request._task = task
        request._found = found
        request._cache = {}
        start, context = monotonic(), copy_context()  # both loops' clock, in finer parts
        if fast.ids is not None:
            request._id = identity = fast.ids.of(headers.get(request_id.HEADER))
            context.run(request_id.current.set, identity)
        self._request_count += 1
        hub.requests_count += 1
        self._parser.message_consumed()  # type: ignore[union-attr]
        try:
            handle = fast.handle if found is None else found[0].handler
            step = context.run(spare.send, handle(request))
        except BaseException as exc:
            step, spare.error = IDLE, exc
        finally:
            _leave_task(loop, task)
        response, block = spare.outcome, None
        if step is IDLE and spare.error is None and not self._close:
            block = fast.render(request, response)
        if block is None:
            spare.step = step
            return self.go_on(spare, context, request, start)
        request._task = spare.outcome = None  # type: ignore[assignment]
        if self._logs:
            response._body_length = len(block)
            context.run(self.log_access, request, response, start)
        elif fast.meter is not None:
            name = request.route_name if found is None else found[0].name
            fast.meter.count(name, method, response._status, monotonic() - start)
        if payload is not EMPTY_PAYLOAD:
            if request._post is not None:
                request._finish()
            payload.set_exception(_PAYLOAD_ACCESS_ERROR)
        self.keep(start)
        return block

    def _trust(self, host: str | None) -> bool:
        good = good_host(host)
        if good:
            self._host = host
        return good
