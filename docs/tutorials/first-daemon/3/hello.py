"""A daemon that greets over HTTP, and shouts over TCP."""

import asyncio

import api_hour
import msgspec
from aiohttp import web


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    greeting: str


async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    line = await reader.readline()
    writer.write(line.upper())


class Container(api_hour.Container):
    settings = Settings
    config: Settings

    async def index(self, request: web.Request) -> api_hour.JSON:
        return api_hour.JSON({"message": self.config.greeting})

    def servers(self) -> dict[str, api_hour.Server]:
        app = web.Application()
        app.router.add_get("/", self.index)
        return {"http": api_hour.HTTPServer(app), "lines": api_hour.StreamServer(shout)}
