"""Names that are stored together."""

from ..engines.postgresql import Pool, UniqueViolation


class NameTaken(Exception):
    """One of the names is stored already, so none of them is."""


async def create(pool: Pool, names: list[str]) -> list[int]:
    """Store every name, or none of them; return their ids."""
    query = "INSERT INTO records (name) VALUES (%s) RETURNING id"
    try:
        async with pool.transaction() as connection:
            return [await connection.fetchval(query, name) for name in names]
    except UniqueViolation as error:
        raise NameTaken from error
