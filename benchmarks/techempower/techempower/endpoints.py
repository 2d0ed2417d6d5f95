"""One endpoint for each test type: HTTP is here, the data's rules are in the services."""

from aiohttp import web

import api_hour
from api_hour.plugins.asyncpg import Pool

from . import worlds
from .fortunes import page

POOL = web.AppKey("POOL", Pool)
CACHE = web.AppKey("CACHE", worlds.Cache)
MAX_ROWS = 500  # that a request may ask for


async def json(request: web.Request) -> api_hour.JSON:
    """Serialise one object, made for this request."""
    return api_hour.JSON({"message": "Hello, World!"})


async def plaintext(request: web.Request) -> web.Response:
    """Send thirteen bytes."""
    return web.Response(body=b"Hello, World!", content_type="text/plain")


async def db(request: web.Request) -> api_hour.JSON:
    """Read one row."""
    return api_hour.JSON(await worlds.read_one(request.app[POOL]))


async def queries(request: web.Request) -> api_hour.JSON:
    """Read several rows, each by a query of its own."""
    return api_hour.JSON(await worlds.read(request.app[POOL], _number(request, "queries")))


async def updates(request: web.Request) -> api_hour.JSON:
    """Read several rows, change them, and write them."""
    return api_hour.JSON(await worlds.update(request.app[POOL], _number(request, "queries")))


async def cached_queries(request: web.Request) -> api_hour.JSON:
    """Read several rows through the cache."""
    number = _number(request, "count")
    return api_hour.JSON(await worlds.read_cached(request.app[POOL], request.app[CACHE], number))


async def fortunes(request: web.Request) -> api_hour.HTML:
    """Render a page."""
    return api_hour.HTML(await page(request.app[POOL]))


def _number(request: web.Request, name: str) -> int:
    """Return the requested number, limited to 1 to 500; 1 if it is missing or not a number."""
    try:
        return min(max(int(request.query.get(name, "1")), 1), MAX_ROWS)
    except ValueError:
        return 1
