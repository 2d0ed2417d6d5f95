"""The URL of the figures."""

import api_hour
from aiohttp import web

from ..services import statistics
from .records import POOL


async def show(request: web.Request) -> api_hour.JSON:
    """Show how many records there are."""
    return api_hour.JSON({"records": await statistics.count_records(request.app[POOL])})
