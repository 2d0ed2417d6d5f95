"""Figures of what is kept."""

from ..engines.postgresql import Pool


async def count_records(pool: Pool) -> int:
    """Return how many records there are."""
    return int(await pool.fetchval("SELECT count(*) FROM records"))
