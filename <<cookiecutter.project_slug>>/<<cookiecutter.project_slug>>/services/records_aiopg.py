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
    query = "INSERT INTO records (name) VALUES (%s) RETURNING id, name, created_at"
    async with pool.cursor() as cursor:
        await cursor.execute(query, (name,))
        return Record(*await cursor.fetchone())


async def list_after(pool: Pool, after: int, limit: int) -> list[Record]:
    """Return at most ``limit`` records with an id above ``after``, in order of id."""
    query = "SELECT id, name, created_at FROM records WHERE id > %s ORDER BY id LIMIT %s"
    async with pool.cursor() as cursor:
        await cursor.execute(query, (after, limit))
        return [Record(*row) for row in await cursor.fetchall()]


async def read(pool: Pool, record_id: int) -> Record | None:
    """Return the record with that id, or None."""
    query = "SELECT id, name, created_at FROM records WHERE id = %s"
    async with pool.cursor() as cursor:
        await cursor.execute(query, (record_id,))
        row = await cursor.fetchone()
    return Record(*row) if row else None


async def delete(pool: Pool, record_id: int) -> bool:
    """Delete the record with that id; return whether there was one."""
    async with pool.cursor() as cursor:
        await cursor.execute("DELETE FROM records WHERE id = %s RETURNING id", (record_id,))
        return await cursor.fetchone() is not None
