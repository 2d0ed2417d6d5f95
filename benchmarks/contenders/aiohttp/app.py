"""The cases on aiohttp: ``gunicorn app:make_app`` with aiohttp's uvloop worker."""

import os
from functools import partial
from typing import Annotated

import asyncpg
import msgspec
import ujson
from aiohttp import web

POOL = web.AppKey("POOL", asyncpg.Pool)
AGENT = "SELECT id, number, first_name, last_name FROM agent_features WHERE id = $1"
AGENTS = """
    SELECT id, number, first_name, last_name, extension, context, state_interface
    FROM agent_features LEFT JOIN agent_login_status ON agent_id = id ORDER BY id
"""

routes = web.RouteTableDef()
dumps = partial(ujson.dumps, ensure_ascii=False, escape_forward_slashes=False)
json_response = partial(web.json_response, dumps=dumps)


@routes.get("/index")
async def index(request):
    return json_response({"message": "Hello, World!"})


@routes.get("/hello/{name}")
async def hello(request):
    greeting = request.query["greeting"]
    return json_response({"greeting": greeting, "name": request.match_info["name"]})


@routes.post("/echo")
async def echo(request):
    return json_response(await request.json(loads=ujson.loads))


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


decode = msgspec.json.Decoder(NewOrder).decode
encode = msgspec.json.Encoder().encode


@routes.post("/orders/{id:[0-9]{1,18}}")
async def typed(request):
    try:
        options = msgspec.convert(dict(request.query), Options, strict=False)
        new = decode(await request.read())
    except msgspec.ValidationError as error:
        raise web.HTTPUnprocessableEntity(text=str(error)) from error
    order = Order(
        int(request.match_info["id"]),
        *(options.limit, options.urgent, new.name, new.quantity, new.tags),
    )
    return web.Response(body=encode(order), content_type="application/json")


@routes.get("/agents")
async def agents(request):
    async with request.app[POOL].acquire() as connection:
        return json_response([dict(row) for row in await connection.fetch(AGENTS)])


@routes.get("/agents/{id}")
async def agent(request):
    async with request.app[POOL].acquire() as connection:
        row = await connection.fetchrow(AGENT, int(request.match_info["id"]))
    return json_response(dict(row))


@routes.get("/agents/first/{count}")
async def first(request):
    numbers = range(1, int(request.match_info["count"]) + 1)
    async with request.app[POOL].acquire() as connection:
        found = [dict(await connection.fetchrow(AGENT, number)) for number in numbers]
    return json_response(found)


async def database(app):
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=1, max_size=10) as pool:
        app[POOL] = pool
        yield


async def make_app():
    app = web.Application()
    app.add_routes(routes)
    app.cleanup_ctx.append(database)
    return app
