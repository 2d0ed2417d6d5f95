<% set a, b = ("$1", "$2") if cookiecutter.database == "asyncpg" else ("%s", "%s") %>
"""The business logic of records."""

from collections.abc import Collection
from datetime import datetime

import msgspec

from ..engines.postgresql import Pool, UniqueViolation

SELECT = """
    SELECT id, name, ARRAY(SELECT tag FROM tags WHERE record_id = id ORDER BY tag), created_at
    FROM records
"""


class NameTaken(Exception):
    """Another record has the name."""


class Record(msgspec.Struct, frozen=True):
    """A name that is stored once, with its tags."""

    id: int
    name: str
    tags: list[str]
    created_at: datetime


async def create(pool: Pool, name: str, tags: Collection[str] = ()) -> Record:
    """Store a record and its tags, or none of it; raises NameTaken."""
    record = "INSERT INTO records (name) VALUES (<< a >>) RETURNING id, created_at"
    tag = "INSERT INTO tags (record_id, tag) VALUES (<< a >>, << b >>)"
    try:
        async with pool.transaction() as connection:
            ((record_id, created_at),) = await connection.fetch(record, name)
            for text in sorted(tags):
                await connection.execute(tag, record_id, text)
            # Made before COMMIT: if this failed, nothing would be stored.
            return Record(record_id, name, sorted(tags), created_at)
    except UniqueViolation as error:
        raise NameTaken(f"There is a record with the name {name}") from error


async def list_after(pool: Pool, after: int, limit: int, tag: str | None = None) -> list[Record]:
    """Return at most ``limit`` records with an id above ``after``, in order of id.

    With ``tag``, only those that have it.
    """
    query = SELECT + "WHERE id > << a >>"
<% if cookiecutter.database == "asyncpg" %>
    query += " AND ($2::text IS NULL OR id IN (SELECT record_id FROM tags WHERE tag = $2))"
    query += " ORDER BY id LIMIT $3"
    rows = await pool.fetch(query, after, tag, limit)
<% else %>
    query += " AND (%s::text IS NULL OR id IN (SELECT record_id FROM tags WHERE tag = %s))"
    query += " ORDER BY id LIMIT %s"
    rows = await pool.fetch(query, after, tag, tag, limit)
<% endif %>
    return [Record(*row) for row in rows]


async def read(pool: Pool, record_id: int) -> Record | None:
    """Return the record with that id, or None."""
    row = await pool.fetchrow(SELECT + "WHERE id = << a >>", record_id)
    return Record(*row) if row else None


async def delete(pool: Pool, record_id: int) -> bool:
    """Delete the record with that id, and its tags; return whether there was one."""
    return await pool.execute("DELETE FROM records WHERE id = << a >>", record_id) == 1
