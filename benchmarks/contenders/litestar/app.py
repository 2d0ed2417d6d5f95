"""The case ``typed`` on Litestar: ``granian --interface asgi app:app``."""

from typing import Annotated

import msgspec
from litestar import Litestar, post
from litestar.params import Parameter


class NewOrder(msgspec.Struct):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    quantity: Annotated[int, msgspec.Meta(ge=1)]
    tags: list[str]


class Order(msgspec.Struct):
    id: int
    limit: int
    urgent: bool
    name: str
    quantity: int
    tags: list[str]


@post("/orders/{id:int}", status_code=200)
async def typed(
    id: int,
    data: NewOrder,
    limit: Annotated[int, Parameter(ge=1, le=100)] = 20,
    urgent: bool = False,
) -> Order:
    return Order(id, limit, urgent, data.name, data.quantity, data.tags)


app = Litestar([typed])
