"""A daemon that greets over HTTP."""

import api_hour
from aiohttp import web


async def index(request: web.Request) -> api_hour.JSON:
    return api_hour.JSON({"message": "Hello, World!"})


class Container(api_hour.Container):
    def servers(self) -> dict[str, api_hour.Server]:
        app = web.Application()
        app.router.add_get("/", index)
        return {"http": api_hour.HTTPServer(app)}
