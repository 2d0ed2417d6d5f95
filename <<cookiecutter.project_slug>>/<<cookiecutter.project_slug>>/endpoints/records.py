"""The URLs of records: the types say what is accepted, the work is done in the service."""

from typing import Annotated

import msgspec
from aiohttp import web
from api_hour import Body, Query, Reply, Text

from ..engines.postgresql import Pool
from ..services import records
from ..services.records import Record

BIGGEST = 2**63 - 1  # of PostgreSQL's bigint
ID = Annotated[int, msgspec.Meta(ge=1, le=BIGGEST)]
Tag = Annotated[Text, msgspec.Meta(min_length=1, max_length=50)]


class NewRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a client tells of a new record."""

    name: Annotated[Text, msgspec.Meta(min_length=1, max_length=200)]
    tags: Annotated[frozenset[Tag], msgspec.Meta(max_length=20)] = frozenset()


class Page(msgspec.Struct, frozen=True):
    """Which records are listed: at most ``limit``, with an id above ``after``, with that tag."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=100)] = 20
    after: Annotated[int, msgspec.Meta(ge=0, le=BIGGEST)] = 0
    tag: Tag | None = None


class RecordPage(msgspec.Struct, frozen=True):
    """Some records, and the ``after`` of the next page, or null."""

    records: list[Record]
    after: int | None


async def create(new: Body[NewRecord], pool: Pool) -> Reply[Record]:
    """Create a record, whose name nobody else has."""
    try:
        record = await records.create(pool, new.name, new.tags)
    except records.NameTaken as error:
        raise web.HTTPConflict(text=str(error)) from error
    return Reply(record, headers={"Location": f"/records/{record.id}"})


async def list_page(page: Query[Page], pool: Pool) -> RecordPage:
    """List records by id, page by page."""
    found = await records.list_after(pool, page.after, page.limit, page.tag)
    return RecordPage(found, found[-1].id if len(found) == page.limit else None)


async def read(id: ID, pool: Pool) -> Record:
    """Return one record."""
    record = await records.read(pool, id)
    if record is None:
        raise _unknown(id)
    return record


async def delete(id: ID, pool: Pool) -> None:
    """Delete one record."""
    if not await records.delete(pool, id):
        raise _unknown(id)


def _unknown(record_id: int) -> web.HTTPNotFound:
    return web.HTTPNotFound(text=f"There is no record with the id {record_id}")
