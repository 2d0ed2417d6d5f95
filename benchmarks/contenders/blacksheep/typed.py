"""The case ``typed`` on BlackSheep, with orjson: ``granian --interface asgi typed:app``."""

from dataclasses import dataclass
from typing import Annotated

import orjson
from blacksheep import Application, Content, FromJSON, Response, post
from blacksheep.server.responses import status_code
from blacksheep.settings.json import json_settings
from pydantic import BaseModel, Field

json_settings.use(loads=orjson.loads)
app = Application()


class NewOrder(BaseModel):
    name: Annotated[str, Field(min_length=1, max_length=100)]
    quantity: Annotated[int, Field(ge=1)]
    tags: list[str]


@dataclass
class Order:
    id: int
    limit: int
    urgent: bool
    name: str
    quantity: int
    tags: list[str]


def answer(data):
    return Response(200, None, Content(b"application/json", orjson.dumps(data)))


@post("/orders/{id}")
async def typed(id: int, data: FromJSON[NewOrder], limit: int = 20, urgent: bool = False):
    if not 1 <= limit <= 100:  # a query's value has a type here, but no limits
        return status_code(422, "limit must be from 1 to 100")
    new = data.value
    return answer(Order(id, limit, urgent, new.name, new.quantity, new.tags))
