"""The cases on aiohttp: ``gunicorn app:make_app`` with aiohttp's uvloop worker."""

import os
from functools import partial

import asyncpg
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
