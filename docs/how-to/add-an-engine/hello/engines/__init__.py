"""Engines are the sources of data; the container opens and closes them."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Self

from ..settings import Settings
from . import postgresql, quotes


class Engines:
    """What services need: one attribute, and one line below, for each source of data."""

    @asynccontextmanager
    async def open(self, settings: Settings) -> AsyncIterator[Self]:
        """Open one after the other, and close them in the opposite order."""
        async with AsyncExitStack() as stack:
            opened = stack.enter_async_context
            self.postgresql = await opened(postgresql.open_pool(settings.postgresql))
            self.quotes = await opened(quotes.open_quotes(settings.quotes))
            yield self
