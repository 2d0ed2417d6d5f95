"""The first page."""

import api_hour
from aiohttp import web

GREETING = web.AppKey("GREETING", str)


async def index(request: web.Request) -> api_hour.JSON:
    """Greet."""
    return api_hour.JSON({"message": request.app[GREETING]})
