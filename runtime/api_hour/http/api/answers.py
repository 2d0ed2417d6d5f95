"""Answers: what an endpoint returns becomes a response, before anything of it is sent."""

from typing import Any, Generic, TypeVar

import msgspec
from aiohttp import web
from aiohttp.typedefs import LooseHeaders

from api_hour.http.responses import Encoded

T = TypeVar("T")

encode = msgspec.json.Encoder().encode


class Reply(Generic[T]):
    """An answer with ``value`` as JSON, and a status or headers of its own.

    The JSON is written here: within a transaction, a value that has none fails before the commit.
    """

    __slots__ = ("body", "headers", "status", "value")

    def __init__(
        self, value: T, *, status: int | None = None, headers: LooseHeaders | None = None
    ) -> None:
        """``status``: by default that of the route. Raises TypeError if JSON has no such value."""
        self.value = value
        self.body = encode(value)
        self.status = status
        self.headers = headers


def answer(value: Any, status: int) -> web.StreamResponse:
    """Return the response to what any endpoint may return.

    Raises TypeError, or another exception of msgspec's, for a value that JSON cannot have.
    """
    if isinstance(value, web.StreamResponse):
        return value
    if isinstance(value, Reply):
        return Encoded(value.body, status=value.status or status, headers=value.headers)
    return Encoded(encode(value), status=status)


def empty(value: object, status: int) -> web.StreamResponse:
    """Return the response of an endpoint that returns nothing."""
    return web.Response(status=status) if value is None else answer(value, status)
