"""The case ``typed`` on API-Hour, with its checks written by hand."""

import re

import msgspec
from aiohttp import web
from app import NewOrder, Options, Order

import api_hour

ID = re.compile("[0-9]{1,18}")
decode = msgspec.json.Decoder(NewOrder).decode
encode = msgspec.json.Encoder().encode


async def typed(request):
    if not ID.fullmatch(request.match_info["id"]):
        raise web.HTTPNotFound
    try:
        options = msgspec.convert(dict(request.query), Options, strict=False)
        new = decode(await request.read())
    except msgspec.ValidationError as error:
        raise web.HTTPUnprocessableEntity(text=str(error)) from error
    order = Order(
        int(request.match_info["id"]),
        options.limit,
        options.urgent,
        new.name,
        new.quantity,
        new.tags,
    )
    return web.Response(body=encode(order), content_type="application/json")


class Container(api_hour.Container):
    def servers(self):
        app = web.Application()
        app.router.add_post("/orders/{id}", typed)
        return {"http": api_hour.HTTPServer(app)}
