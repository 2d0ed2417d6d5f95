"""The first page."""

import api_hour
from aiohttp import web


async def index(request: web.Request) -> api_hour.JSON:
    """Greet."""
    return api_hour.JSON({"message": f"Hello, {request.remote}!"})
