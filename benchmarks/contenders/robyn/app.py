"""The cases on Robyn: ``python app.py``; the port is in ROBYN_PORT."""

from urllib.parse import unquote_plus

from robyn import Request, Robyn

app = Robyn(__file__)


@app.get("/index")
def index():
    return {"message": "Hello, World!"}


@app.get("/hello/:name")
def hello(request: Request):
    greeting = request.query_params.get("greeting", "")  # as sent, still percent-encoded
    return {"greeting": unquote_plus(greeting), "name": request.path_params["name"]}


@app.post("/echo")
def echo(request: Request):
    return request.json()


app.start()
