"""Prices as Server-Sent Events and over WebSockets: ``api_hour prices:Container``."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress

import api_hour
import msgspec
from aiohttp import WSCloseCode, WSMsgType, web

KEPT = 100  # prices, for those who come back or are slow
MOST = 1000  # WebSockets of a worker
LARGEST = 4096  # bytes of a message


class Offer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    article: str
    cents: int


class Price(msgspec.Struct, frozen=True):
    id: int
    article: str
    cents: int


class Prices:
    """The last prices of this worker. Followers share them: a slow one costs no memory."""

    def __init__(self) -> None:
        self._kept: deque[Price] = deque(maxlen=KEPT)
        self._last = 0
        self._news = asyncio.Event()

    def publish(self, offer: Offer) -> None:
        self._last += 1
        self._kept.append(Price(self._last, offer.article, offer.cents))
        self._news.set()
        self._news = asyncio.Event()

    async def after(self, last: int) -> AsyncIterator[Price]:
        """Yield past and future prices after ``last``, as far as they are still kept."""
        while True:
            news = self._news
            for price in [price for price in self._kept if price.id > last]:
                yield price
                last = price.id
            await news.wait()


async def follow(
    prices: Prices, last_event_id: api_hour.Header[int | None] = None
) -> AsyncIterator[api_hour.Event[Price]]:
    """Tell each price, as Server-Sent Events."""
    async for price in prices.after(last_event_id or 0):
        yield api_hour.Event(price, id=price.id)


class Sockets:
    """WebSockets on which both sides talk."""

    def __init__(self, prices: Prices, origins: list[str]) -> None:
        self._prices = prices
        self._origins = origins
        self._open = 0

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        """Take offers, and tell each price."""
        if request.headers.get("Origin") not in self._origins:
            raise web.HTTPForbidden(text="This page may not open a WebSocket here")
        if self._open >= MOST:
            raise web.HTTPServiceUnavailable(headers={"Retry-After": "5"})
        socket = web.WebSocketResponse(heartbeat=20, max_msg_size=LARGEST)
        self._open += 1
        try:
            await socket.prepare(request)
            await self._talk(socket)
        finally:
            self._open -= 1
        return socket

    async def _talk(self, socket: web.WebSocketResponse) -> None:
        async with asyncio.TaskGroup() as tasks:
            telling = tasks.create_task(self._tell(socket))
            async for message in socket:
                try:
                    if message.type is not WSMsgType.TEXT:
                        raise msgspec.DecodeError("not a text")
                    self._prices.publish(msgspec.json.decode(message.data, type=Offer))
                except msgspec.DecodeError:
                    await socket.close(code=WSCloseCode.INVALID_TEXT)
            telling.cancel()

    async def _tell(self, socket: web.WebSocketResponse) -> None:
        with suppress(ConnectionError):  # the loop that reads from the socket ends as well
            async for price in self._prices.after(0):
                await socket.send_str(msgspec.json.encode(price).decode())


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    session: str
    origins: list[str]


class Container(api_hour.Container):
    settings = Settings

    def servers(self) -> dict[str, api_hour.Server]:
        app = web.Application()
        prices = Prices()
        session = api_hour.APIKey(self.config.session, cookie="session")
        api = api_hour.API(app, title="Prices", version="1.0", security=session)
        api.provide(prices)
        api.get("/prices", follow)
        api.get("/socket", Sockets(prices, self.config.origins).serve)
        return {"http": api_hour.HTTPServer(app)}
