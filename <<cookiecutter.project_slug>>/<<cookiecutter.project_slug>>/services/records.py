<% set first, second = ("$1", "$2") if cookiecutter.database == "asyncpg" else ("%s", "%s") %>
"""The business logic of records."""

from datetime import datetime

import msgspec

from ..engines.postgresql import Pool


class Record(msgspec.Struct, frozen=True):
    """A stored name."""

    id: int
    name: str
    created_at: datetime


async def create(pool: Pool, name: str) -> Record:
    """Store a name under a new id."""
    query = "INSERT INTO records (name) VALUES (<< first >>) RETURNING id, name, created_at"
    (row,) = await pool.fetch(query, name)
    return Record(*row)


async def list_after(pool: Pool, after: int, limit: int) -> list[Record]:
    """Return at most ``limit`` records with an id above ``after``, in order of id."""
    query = "SELECT id, name, created_at FROM records WHERE id > << first >> ORDER BY id LIMIT << second >>"
    return [Record(*row) for row in await pool.fetch(query, after, limit)]


async def read(pool: Pool, record_id: int) -> Record | None:
    """Return the record with that id, or None."""
    query = "SELECT id, name, created_at FROM records WHERE id = << first >>"
    row = await pool.fetchrow(query, record_id)
    return Record(*row) if row else None


async def delete(pool: Pool, record_id: int) -> bool:
    """Delete the record with that id; return whether there was one."""
    return await pool.execute("DELETE FROM records WHERE id = << first >>", record_id) == 1
