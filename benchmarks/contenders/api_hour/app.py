"""The cases on API-Hour, with aiopg: ``api_hour app:Container`` in this folder."""

from contextlib import asynccontextmanager
from typing import Annotated

import msgspec
import ujson
from aiohttp import web

import api_hour
from api_hour.plugins import aiopg

POOL = web.AppKey("POOL", aiopg.Pool)
AGENT = "SELECT id, number, first_name, last_name FROM agent_features WHERE id = %s"
AGENTS = """
    SELECT id, number, first_name, last_name, extension, context, state_interface
    FROM agent_features LEFT JOIN agent_login_status ON agent_id = id ORDER BY id
"""


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    limit: Annotated[int, msgspec.Meta(ge=1, le=100)] = 20
    urgent: bool = False


class NewOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    quantity: Annotated[int, msgspec.Meta(ge=1)]
    tags: list[str]


class Order(msgspec.Struct, frozen=True):
    id: int
    limit: int
    urgent: bool
    name: str
    quantity: int
    tags: list[str]


async def typed(id: int, options: api_hour.Query[Options], new: api_hour.Body[NewOrder]) -> Order:
    return Order(id, options.limit, options.urgent, new.name, new.quantity, new.tags)


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    dsn: str


async def index(request):
    return api_hour.JSON({"message": "Hello, World!"})


async def hello(request):
    greeting = request.query["greeting"]
    return api_hour.JSON({"greeting": greeting, "name": request.match_info["name"]})


async def echo(request):
    return api_hour.JSON(await request.json(loads=ujson.loads))


async def agents(request):
    async with request.app[POOL].cursor() as cursor:
        await cursor.execute(AGENTS)
        names = [column.name for column in cursor.description]
        rows = await cursor.fetchall()
    return api_hour.JSON([dict(zip(names, row, strict=True)) for row in rows])


async def agent(request):
    async with request.app[POOL].cursor() as cursor:
        await cursor.execute(AGENT, (int(request.match_info["id"]),))
        return api_hour.JSON(named(cursor, await cursor.fetchone()))


async def first(request):
    found = []
    async with request.app[POOL].cursor() as cursor:
        for number in range(1, int(request.match_info["count"]) + 1):
            await cursor.execute(AGENT, (number,))
            found.append(named(cursor, await cursor.fetchone()))
    return api_hour.JSON(found)


def named(cursor, row):
    return {column.name: value for column, value in zip(cursor.description, row, strict=True)}


class Container(api_hour.Container):
    settings = Settings

    @asynccontextmanager
    async def engines(self):
        async with aiopg.create_pool(self.config.dsn) as self.pool:
            yield

    def servers(self):
        app = web.Application()
        app[POOL] = self.pool
        app.router.add_get("/index", index)
        app.router.add_get("/hello/{name}", hello)
        app.router.add_post("/echo", echo)
        api_hour.API(app, title="Benchmark", version="1").post("/orders/{id}", typed)
        app.router.add_get("/agents", agents)
        app.router.add_get("/agents/{id}", agent)
        app.router.add_get("/agents/first/{count}", first)
        return {"http": api_hour.HTTPServer(app)}
