"""Serve JSON over HTTP: ``api_hour all_in_one:Container`` in this folder."""

import api_hour
from aiohttp import web


async def index(request: web.Request) -> api_hour.JSON:
    return api_hour.JSON({"message": "Hello, World!"})


class Container(api_hour.Container):
    def servers(self) -> dict[str, api_hour.Server]:
        app = web.Application()
        app.router.add_get("/", index)
        return {"http": api_hour.HTTPServer(app)}
