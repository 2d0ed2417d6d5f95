"""The kitchen table on API-Hour, with asyncpg."""

from contextlib import asynccontextmanager

import msgspec
from aiohttp import web

import api_hour
from api_hour.plugins import asyncpg

POOL = web.AppKey("POOL", asyncpg.Pool)
AGENT = "SELECT id, number, first_name, last_name FROM agent_features WHERE id = $1"
AGENTS = """
    SELECT id, number, first_name, last_name, extension, context, state_interface
    FROM agent_features LEFT JOIN agent_login_status ON agent_id = id ORDER BY id
"""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    dsn: str


async def agents(request):
    async with request.app[POOL].connection() as connection:
        return api_hour.JSON([dict(row) for row in await connection.fetch(AGENTS)])


async def agent(request):
    async with request.app[POOL].connection() as connection:
        row = await connection.fetchrow(AGENT, int(request.match_info["id"]))
    return api_hour.JSON(dict(row))


async def first(request):
    numbers = range(1, int(request.match_info["count"]) + 1)
    async with request.app[POOL].connection() as connection:
        found = [dict(await connection.fetchrow(AGENT, number)) for number in numbers]
    return api_hour.JSON(found)


class Container(api_hour.Container):
    settings = Settings

    @asynccontextmanager
    async def engines(self):
        async with asyncpg.create_pool(self.config.dsn) as self.pool:
            yield

    def servers(self):
        app = web.Application()
        app[POOL] = self.pool
        app.router.add_get("/agents", agents)
        app.router.add_get("/agents/{id}", agent)
        app.router.add_get("/agents/first/{count}", first)
        return {"http": api_hour.HTTPServer(app)}
