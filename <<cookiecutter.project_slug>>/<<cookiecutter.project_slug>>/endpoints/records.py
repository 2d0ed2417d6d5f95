"""The URLs of records: input is checked here, the work is done in the service."""

import re
from typing import Annotated

import api_hour
import msgspec
from aiohttp import web

from ..engines.postgresql import Pool
from ..services import records

POOL = web.AppKey("POOL", Pool)
ID = re.compile(r"[0-9]{1,18}")  # eighteen digits always fit the column's bigint


class NewRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a POST."""

    # PostgreSQL stores every character except NUL.
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"\A[^\0]*\Z")]


class Page(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The query string of a list: at most ``limit`` records with an id above ``after``."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=100)] = 20
    after: Annotated[int, msgspec.Meta(ge=0, lt=10**18)] = 0


async def create(request: web.Request) -> api_hour.JSON:
    """Create a record."""
    new = await api_hour.read_json(request, NewRecord)
    record = await records.create(request.app[POOL], new.name)
    location = {"Location": f"/records/{record.id}"}
    return api_hour.JSON(msgspec.to_builtins(record), status=201, headers=location)


async def list_page(request: web.Request) -> api_hour.JSON:
    """List records by id; ``after`` in the response is the cursor of the next page, or null."""
    try:
        page = msgspec.convert(dict(request.query), Page, strict=False)
    except msgspec.ValidationError as error:
        raise web.HTTPUnprocessableEntity(text=str(error)) from error
    found = await records.list_after(request.app[POOL], page.after, page.limit)
    after = found[-1].id if len(found) == page.limit else None
    return api_hour.JSON({"records": msgspec.to_builtins(found), "after": after})


async def read(request: web.Request) -> api_hour.JSON:
    """Return one record."""
    record = await records.read(request.app[POOL], _id(request))
    if record is None:
        raise _unknown(request)
    return api_hour.JSON(msgspec.to_builtins(record))


async def delete(request: web.Request) -> web.Response:
    """Delete one record."""
    if not await records.delete(request.app[POOL], _id(request)):
        raise _unknown(request)
    return web.Response(status=204)


def _id(request: web.Request) -> int:
    """Return the id in the path; answer 404 to what cannot be an id."""
    if not ID.fullmatch(request.match_info["id"]):
        raise _unknown(request)
    return int(request.match_info["id"])


def _unknown(request: web.Request) -> web.HTTPNotFound:
    return web.HTTPNotFound(text=f"There is no record with the id {request.match_info['id']}")
