"""Figures of what is kept."""

from ..engines.postgresql import Pool


async def count_records(pool: Pool) -> int:
    """Return how many records there are."""
    async with pool.cursor() as cursor:
        await cursor.execute("SELECT count(*) FROM records")
        (number,) = await cursor.fetchone()
    return int(number)
