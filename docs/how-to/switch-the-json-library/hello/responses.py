"""Answers in JSON, as msgspec writes it; no other file knows which library does."""

from typing import Any

import msgspec
from aiohttp import web

_encode = msgspec.json.Encoder().encode


def to_json(data: Any, status: int = 200) -> web.Response:
    """Answer with ``data``, which may be a Struct, a dataclass, a date or a UUID."""
    return web.Response(body=_encode(data), status=status, content_type="application/json")
