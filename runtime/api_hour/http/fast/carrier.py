"""Carriers: a request that is not done at once goes on through aiohttp's own code.

Where that waits for something, a spare task takes over, in the place of the two tasks that aiohttp
has for a request.
"""

import asyncio
import sys
from collections.abc import Coroutine
from contextvars import Context
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import _PAYLOAD_ACCESS_ERROR

from api_hour.http.connection import Connection
from api_hour.http.fast.task_pool import IDLE, Spare, Steps, begun, inside
from api_hour.http.request import Request

# aiohttp's waiter and task, while a spare task is at work
Busy = tuple["asyncio.Future[None] | None", "asyncio.Task[None] | None"]


class Carrier(Connection):
    """Be aiohttp's protocol, and finish what has begun elsewhere than in its own loop."""

    __slots__ = ("_busy", "_out")

    def __init__(self, hub: Any, **kwargs: Any) -> None:
        super().__init__(hub, **kwargs)
        self._busy: Busy | None = None
        self._out = b""  # answers that wait for the end of their batch

    def start(self) -> Coroutine[Any, Any, None]:
        """Wait for requests from now on, as aiohttp does where tasks can start eagerly.

        The first one comes often before the task that waits has had its turn.
        """
        steps = super().start()
        return steps if sys.version_info >= (3, 12) else begun(steps.send(None), steps)

    def go_on(self, spare: Spare, context: Context, request: Request, start: float) -> bytes:
        """Do the rest through aiohttp's own code: at once, or in the spare task where it waits."""
        steps: Steps = self._carry(request, start, spare.rest)
        if spare.step is IDLE:
            spare.begin(steps, context)
            if spare.step is IDLE:
                if spare.error is not None:  # to be raised in a task
                    spare.carry_on(spare.rest())
                return b""
            steps = spare.rest()
        self._busy = self._waiter, self._task_handler
        self._waiter, self._task_handler = None, spare.task
        spare.carry_on(inside(context, steps))
        return b""

    async def _carry(self, request: Request, start: float, handle: Any) -> None:
        """Do what aiohttp's ``start`` does for one request."""
        keep = False
        try:
            response, reset = await self._handle_request(request, start, handle)
            keep = bool(response.keep_alive) and not reset
        except ConnectionError:
            self.log_debug("Ignored premature client disconnection")
        except Exception as exc:
            self.log_exception("Unhandled exception", exc_info=exc)
        finally:
            request._task = None  # type: ignore[assignment]
            request._payload.set_exception(_PAYLOAD_ACCESS_ERROR)
            self._end(keep)

    def _end(self, keep: bool) -> None:
        """Be idle again, or close."""
        if self._busy:
            (self._waiter, starter), self._busy = self._busy, None
            self._task_handler = starter if self._manager else None
        if not keep or self._close or self._force_close:
            self.flush()
            self.force_close()
            return
        self.keep(self._loop.time())
        if self._messages and self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    def keep(self, now: float) -> None:
        """Set the timer for an idle connection, as aiohttp does."""
        self._keepalive = True
        self._next_keepalive_close_time = close = now + self._keepalive_timeout
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(close, self._process_keepalive)

    def flush(self) -> bool:
        """Write what is answered; tell whether the peer is still there."""
        out, self._out = self._out, b""
        if self.transport is None or self.transport.is_closing():
            return False
        if out:
            self.transport.write(out)
        return True

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send a response as one block where that is possible."""
        block = None
        if not self._upgraded:
            block = self._hub.fast.render(request, resp, raised=True)
        if block is None:
            return await super().finish_response(request, resp, start_time)
        request._finish()
        resp._body_length = len(block)
        self._out += block
        reset = not self.flush()
        if self._paused:
            await self._drain_helper()
        self.log_access(request, resp, start_time)
        return resp, reset
