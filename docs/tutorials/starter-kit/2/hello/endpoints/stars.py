"""The stars of a record."""

import msgspec
from aiohttp import web

from ..engines.postgresql import Pool
from ..services import stars
from .records import ID


class Stars(msgspec.Struct, frozen=True):
    """How many stars a record has."""

    stars: int


async def add(id: ID, pool: Pool) -> Stars:
    """Give a record one more star."""
    count = await stars.add(pool, id)
    if count is None:
        raise web.HTTPNotFound(text=f"There is no record with the id {id}")
    return Stars(count)
