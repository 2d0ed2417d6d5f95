"""The cases on BlackSheep: ``granian --interface asgi app:app``."""

from dataclasses import dataclass

from blacksheep import Application, FromJSON, get, json, post

app = Application()


@dataclass
class Message:
    message: str
    numbers: list[int]


@get("/index")
async def index():
    return json({"message": "Hello, World!"})


@get("/hello/{name}")
async def hello(name: str, greeting: str):
    return json({"greeting": greeting, "name": name})


@post("/echo")
async def echo(message: FromJSON[Message]):
    return json(message.value)
