"""An endpoint that asks another service over HTTP: ``api_hour outgoing:Container``."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Annotated

import aiohttp
import api_hour
import msgspec
from aiohttp import web

DEADLINE = 2.0  # seconds for an answer, with all attempts and the wait for a connection
ATTEMPT = aiohttp.ClientTimeout(total=1.0, connect=0.5)
PAUSES = 0.05, 0.2  # seconds before the second and the third attempt, at most
CONNECTIONS = 20  # of each worker

Postcode = Annotated[str, msgspec.Meta(pattern="^[0-9]{4,5}$")]


class Place(msgspec.Struct):
    name: str


class Places:
    """The service that knows places; api_hour.EngineUnavailable while it does not answer."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def find(self, postcode: str) -> Place | None:
        """Return the place, None if the service does not know the postcode."""
        body = await self._get(f"/places/{postcode}")
        return None if body is None else msgspec.json.decode(body, type=Place)

    async def _get(self, path: str) -> bytes | None:
        try:
            async with asyncio.timeout(DEADLINE):
                for pause in PAUSES:
                    with suppress(aiohttp.ClientError, TimeoutError, api_hour.EngineUnavailable):
                        return await self._get_once(path)
                    await asyncio.sleep(random.uniform(0, pause))  # noqa: S311 - no secret
                return await self._get_once(path)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise api_hour.EngineUnavailable(f"places: {error!r}") from error

    async def _get_once(self, path: str) -> bytes | None:
        async with self._session.get(path, allow_redirects=False) as response:
            if response.status == 404:
                return None  # an answer as good as any
            if response.status >= 500 or response.status == 429:
                raise api_hour.EngineUnavailable(f"places: it answered {response.status}")
            if response.status != 200:
                raise RuntimeError(f"places answered {response.status} to GET {path}")
            return await response.read()


async def read(postcode: Postcode, places: Places) -> Place:
    """Return the place that has a postcode."""
    place = await places.find(postcode)
    if place is None:
        raise web.HTTPNotFound(text=f"No place has the postcode {postcode}")
    return place


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    places_url: str


class Container(api_hour.Container):
    settings = Settings

    @asynccontextmanager
    async def engines(self) -> AsyncIterator[None]:
        connector = aiohttp.TCPConnector(limit=CONNECTIONS)
        async with aiohttp.ClientSession(
            self.config.places_url,
            connector=connector,
            timeout=ATTEMPT,
            cookie_jar=aiohttp.DummyCookieJar(),
        ) as session:
            self.places = Places(session)
            yield

    def servers(self) -> dict[str, api_hour.Server]:
        app = web.Application()
        api = api_hour.API(app, title="Places", version="1.0")
        api.provide(self.places)
        api.get("/postcodes/{postcode}", read, errors=[404, 503])
        return {"http": api_hour.HTTPServer(app)}
