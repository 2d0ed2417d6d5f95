"""One endpoint by itself: an API of the test's own, without the project's application."""

from typing import Annotated

import api_hour
import msgspec
from aiohttp import web
from api_hour import testing


class Order(msgspec.Struct):
    """What is ordered."""

    count: Annotated[int, msgspec.Meta(ge=1)]


async def price(order: api_hour.Body[Order]) -> int:
    """Return the price, in cents."""
    return order.count * 250


async def test_the_work_is_a_function() -> None:
    assert await price(Order(2)) == 500


async def test_a_count_is_at_least_one() -> None:
    app = web.Application()
    api_hour.API(app, title="Test", version="1").post("/price", price)
    async with testing.client(app) as client:
        answer = await client.post("/price", json={"count": 0})
        assert (answer.status, answer.json()["errors"][0]["field"]) == (422, "count")
