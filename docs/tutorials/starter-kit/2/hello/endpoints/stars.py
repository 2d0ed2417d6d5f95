"""The stars of a record."""

import api_hour
from aiohttp import web

from ..services import stars
from .records import POOL


async def add(request: web.Request) -> api_hour.JSON:
    """Give a record one more star."""
    record = int(request.match_info["id"])
    count = await stars.add(request.app[POOL], record)
    if count is None:
        raise web.HTTPNotFound(text=f"There is no record with the id {record}")
    return api_hour.JSON({"stars": count})
