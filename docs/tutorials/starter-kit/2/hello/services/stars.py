"""What can be done with the stars of a record."""

from ..engines.postgresql import Pool


async def add(pool: Pool, record_id: int) -> int | None:
    """Give a record a star; return how many it has, or None without a record."""
    query = "UPDATE records SET stars = stars + 1 WHERE id = %s RETURNING stars"
    stars: int | None = await pool.fetchval(query, record_id)
    return stars
