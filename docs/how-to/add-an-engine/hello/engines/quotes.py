"""The service of quotes, over HTTP; no other file knows how it is asked."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import api_hour

from ..settings import Quotes as Settings


class Quotes:
    """The service of quotes; api_hour.EngineUnavailable while it is away."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def today(self) -> str | None:
        """Return the quote of the day, None if there is none today."""
        return await self._get("/today")

    async def ping(self) -> None:
        """Return when the service answers."""
        await self._get("/")

    async def _get(self, path: str) -> str | None:
        try:
            async with self._session.get(path) as response:
                text = await response.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise api_hour.EngineUnavailable(f"quotes: {error!r}") from error
        if response.status >= 500:
            raise api_hour.EngineUnavailable(f"quotes: it answered {response.status}")
        if response.status == 404:  # the service is there, and says that it has none
            return None
        response.raise_for_status()  # of our own request: a 500, with a traceback in the log
        return text.strip()


@asynccontextmanager
async def open_quotes(settings: Settings) -> AsyncIterator[Quotes]:
    """Open a session, which connects when it is first asked; close it in the end."""
    patience = aiohttp.ClientTimeout(total=settings.timeout)
    pool = aiohttp.TCPConnector(limit=settings.maxsize)
    session = aiohttp.ClientSession(settings.url, timeout=patience, connector=pool)
    async with session:
        yield Quotes(session)
