"""The case ``typed`` on FastAPI: ``uvicorn typed:app``.

An application of its own: FastAPI tries its routes one after the other, and those of the other
cases would cost this one 4 %.
"""

from typing import Annotated

from fastapi import FastAPI, Query
from pydantic import BaseModel, Field

app = FastAPI()


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


@app.post("/orders/{id}")
async def typed(
    id: int,
    new: NewOrder,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    urgent: bool = False,
) -> Order:
    return Order(
        id=id,
        limit=limit,
        urgent=urgent,
        name=new.name,
        quantity=new.quantity,
        tags=new.tags,
    )
