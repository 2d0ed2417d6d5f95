"""Server-Sent Events (HTML's ``text/event-stream``): an endpoint that yields becomes a stream.

A stream ends when its iterator does, when its client leaves, or when the worker drains. Then the
last thing that it says is after how long its client should come back, chosen by chance: otherwise
all clients of a worker would connect again in the same moment.
"""

import asyncio
import inspect
import random
import re
from collections.abc import AsyncIterable, AsyncIterator, Awaitable
from typing import Any, Generic, TypeVar

from aiohttp import hdrs, web

from api_hour.http.api.answers import encode
from api_hour.http.request import has_left

T = TypeVar("T")

KEEP_ALIVE = 15.0  # seconds without an event, after which a comment is sent
FIRST = 0.5  # seconds in which an endpoint may still fail with a status of its own
RETRY = 500, 5000  # milliseconds, between which clients come back after a drain
HEADERS = {
    hdrs.CONTENT_TYPE: "text/event-stream; charset=utf-8",
    hdrs.CACHE_CONTROL: "no-store",
    "X-Accel-Buffering": "no",  # nginx keeps an answer back otherwise
}
_LINE = re.compile(r"[^\r\n\0]*")


class Event(Generic[T]):
    """An event: its data as JSON, and what the standard has beside them."""

    __slots__ = ("data", "id", "name", "retry")

    def __init__(
        self, data: T, *, name: str = "", id: str | int = "", retry: float | None = None
    ) -> None:
        """``name`` is the type that listeners ask for; a client that comes back sends the last
        ``id`` as Last-Event-ID; ``retry`` is in seconds. Raises ValueError for a line break.
        """
        self.data = data
        self.name = name
        self.id = str(id)
        self.retry = retry
        if not _LINE.fullmatch(self.name) or not _LINE.fullmatch(self.id):
            raise ValueError("neither the name nor the id of an event may have a line break or NUL")

    def render(self) -> bytes:
        """Return the event as it is sent."""
        lines = [f"id: {self.id}\n"] if self.id else []
        lines += [f"event: {self.name}\n"] if self.name else []
        lines += [f"retry: {round(self.retry * 1000)}\n"] if self.retry is not None else []
        return "".join(lines).encode() + b"data: " + encode(self.data) + b"\n\n"


class Streams:
    """The streams of one application, which end when it shuts down."""

    def __init__(self, app: web.Application) -> None:
        self._open: set[asyncio.Future[None]] = set()
        self._draining = False
        app.on_shutdown.append(self._drain)

    async def answer(
        self, request: web.Request, given: AsyncIterable[Event[Any]] | Awaitable[Any]
    ) -> web.StreamResponse:
        """Send the events of an endpoint; return when there are no more."""
        events = await given if inspect.isawaitable(given) else given
        response = web.StreamResponse(headers=HEADERS)
        drained = asyncio.get_running_loop().create_future()
        self._open.add(drained)
        if self._draining:
            drained.set_result(None)
        try:
            if request.method != hdrs.METH_HEAD:
                await _send(request, response, events, drained)
            return response
        except ConnectionError:
            if not has_left(request):  # it is the endpoint's own
                raise
            return response
        finally:
            self._open.discard(drained)
            if close := getattr(events, "aclose", None):
                await close()

    async def _drain(self, _app: web.Application) -> None:
        self._draining = True
        for drained in self._open:
            if not drained.done():
                drained.set_result(None)


async def _send(
    request: web.Request,
    response: web.StreamResponse,
    events: AsyncIterable[Event[Any]],
    drained: "asyncio.Future[None]",
) -> None:
    iterator = aiter(events)
    step = _next(iterator)
    try:
        await asyncio.wait((step, drained), timeout=FIRST, return_when=asyncio.FIRST_COMPLETED)
        if step.done():
            step.result()  # an error still has a status of its own
        await response.prepare(request)
        while not drained.done():
            if not step.done():
                await response.write(b": keep-alive\n\n")
            elif (event := step.result()) is None:
                return
            else:
                await response.write(event)
                step = _next(iterator)
            await asyncio.wait(
                (step, drained), timeout=KEEP_ALIVE, return_when=asyncio.FIRST_COMPLETED
            )
        await response.write(b"retry: %d\n\n" % random.randint(*RETRY))  # noqa: S311 - no secret
    finally:
        step.cancel()
        await asyncio.wait((step,))


def _next(iterator: AsyncIterator[Event[Any]]) -> "asyncio.Task[bytes | None]":
    return asyncio.create_task(_render_next(iterator))


async def _render_next(iterator: AsyncIterator[Event[Any]]) -> bytes | None:
    """Return the next event as it is sent, None if there are no more."""
    async for event in iterator:
        return event.render()
    return None
