"""The first page."""

from datetime import date

from aiohttp import web

from ..responses import to_json


async def index(request: web.Request) -> web.Response:
    """Greet."""
    return to_json({"message": "Hello, World!", "since": date(2014, 10, 1)})
