"""Orders with typed endpoints: ``api_hour orders:Container`` in this folder.

Read and try them at http://127.0.0.1:8000/docs.
"""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated

import api_hour
import msgspec
from aiohttp import web


class Status(Enum):
    NEW = "new"
    SENT = "sent"


class NewOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a client orders."""

    article: Annotated[api_hour.Text, msgspec.Meta(min_length=1, max_length=100)]
    price: Decimal
    quantity: Annotated[int, msgspec.Meta(ge=1)] = 1


class Order(msgspec.Struct):
    """An order, and what has become of it."""

    id: int
    customer: str
    article: str
    total: Decimal
    ordered_at: datetime
    status: Status = Status.NEW


class Filter(msgspec.Struct, frozen=True):
    """Which orders to list."""

    status: list[Status] = []
    limit: Annotated[int, msgspec.Meta(ge=1, le=100)] = 20


class Orders:
    """The orders of this worker, in memory."""

    def __init__(self) -> None:
        self.by_id: dict[int, Order] = {}


class Customer(msgspec.Struct, frozen=True):
    """Who orders."""

    name: str


async def customer(x_customer: api_hour.Header[str | None] = None) -> Customer:
    """Return the customer of a request."""
    if x_customer is None:
        raise web.HTTPUnauthorized(text="Say who you are, as X-Customer")
    return Customer(x_customer)


async def create(
    new: api_hour.Body[NewOrder], customer: Customer, orders: Orders
) -> api_hour.Reply[Order]:
    """Order something."""
    number, total = len(orders.by_id) + 1, new.price * new.quantity
    order = Order(number, customer.name, new.article, total, datetime.now(UTC))
    orders.by_id[number] = order
    return api_hour.Reply(order, headers={"Location": f"/orders/{number}"})


async def list_orders(wanted: api_hour.Query[Filter], orders: Orders) -> list[Order]:
    """List the oldest orders, of all statuses or of some."""
    found = [o for o in orders.by_id.values() if not wanted.status or o.status in wanted.status]
    return found[: wanted.limit]


async def read(id: int, orders: Orders) -> Order:
    """Return one order."""
    if id not in orders.by_id:
        raise web.HTTPNotFound(text=f"There is no order {id}")
    return orders.by_id[id]


async def send(id: int, orders: Orders) -> None:
    """Say that an order is on its way."""
    order = await read(id, orders)
    if order.status is Status.SENT:
        raise web.HTTPConflict(text=f"Order {id} has been sent already")
    order.status = Status.SENT


async def follow(orders: Orders) -> AsyncIterator[api_hour.Event[Order]]:
    """Tell each order, as server-sent events."""
    for order in orders.by_id.values():
        yield api_hour.Event(order, id=order.id)


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    api_key: str


class Container(api_hour.Container):
    settings = Settings

    def servers(self) -> dict[str, api_hour.Server]:
        app = web.Application()
        api = api_hour.API(app, title="Orders", version="1.0", docs=True)
        api.provide(Orders())
        api.provide(customer)
        api.get("/orders", list_orders)
        api.get("/orders/{id}", read, errors=[404])
        api.get("/events", follow)
        staff = api.group(security=api_hour.APIKey(self.config.api_key))
        staff.post("/orders", create, status=201)
        staff.post("/orders/{id}/sent", send, errors=[404, 409])
        return {"http": api_hour.HTTPServer(app)}
