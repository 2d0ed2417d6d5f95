"""The service of quotes, over HTTP; no other file knows how it is asked."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import api_hour

from ..settings import Quotes as Settings


class Quotes:
    """Ask for quotes; raise api_hour.DatabaseUnavailable while the service is away."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def today(self) -> str:
        """Return the quote of the day."""
        return await self._get("/today")

    async def ping(self) -> None:
        """Return when the service answers."""
        await self._get("/")

    async def _get(self, path: str) -> str:
        try:
            async with self._session.get(path, raise_for_status=True) as response:
                return (await response.text()).strip()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise api_hour.DatabaseUnavailable(f"quotes: {error}") from error


@asynccontextmanager
async def open_quotes(settings: Settings) -> AsyncIterator[Quotes]:
    """Open a session, which connects when it is first asked; close it in the end."""
    patience = aiohttp.ClientTimeout(total=settings.timeout)
    pool = aiohttp.TCPConnector(limit=settings.maxsize)
    session = aiohttp.ClientSession(settings.url, timeout=patience, connector=pool)
    async with session:
        yield Quotes(session)
