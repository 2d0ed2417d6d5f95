"""The cases on Starlette: ``granian --interface asgi app:app``."""

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route


async def index(request):
    return JSONResponse({"message": "Hello, World!"})


async def hello(request):
    greeting = request.query_params["greeting"]
    return JSONResponse({"greeting": greeting, "name": request.path_params["name"]})


async def echo(request):
    return JSONResponse(await request.json())


app = Starlette(
    routes=[
        Route("/index", index),
        Route("/hello/{name}", hello),
        Route("/echo", echo, methods=["POST"]),
    ]
)
