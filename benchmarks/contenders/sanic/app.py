"""The cases on Sanic: ``sanic app:app``."""

from sanic import Sanic, json

app = Sanic("benchmark")


@app.get("/index")
async def index(request):
    return json({"message": "Hello, World!"})


@app.get("/hello/<name>")
async def hello(request, name):
    return json({"greeting": request.args.get("greeting"), "name": name})


@app.post("/echo")
async def echo(request):
    return json(request.json)
