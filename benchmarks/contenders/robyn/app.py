"""The cases on Robyn: ``python app.py``; the port is in ROBYN_PORT."""

from typing import Annotated
from urllib.parse import unquote_plus

from pydantic import BaseModel, Field
from robyn import Request, Response, Robyn

app = Robyn(__file__)


class NewOrder(BaseModel):
    name: Annotated[str, Field(min_length=1, max_length=100)]
    quantity: Annotated[int, Field(ge=1)]
    tags: list[str]


class Order(BaseModel):
    id: int
    limit: int
    urgent: bool
    name: str
    quantity: int
    tags: list[str]


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


@app.post("/orders/:id")
def typed(id: int, new: NewOrder, limit: int = 20, urgent: bool = False):
    if not 1 <= limit <= 100:  # a query's value has a type here, but no limits
        return Response(422, {"Content-Type": "text/plain"}, "limit must be from 1 to 100")
    return Order(
        id=id,
        limit=limit,
        urgent=urgent,
        name=new.name,
        quantity=new.quantity,
        tags=new.tags,
    )


app.start()
