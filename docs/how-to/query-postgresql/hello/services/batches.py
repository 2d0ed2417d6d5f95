"""Records that are stored together."""

from ..engines.postgresql import Pool, UniqueViolation
from .records import NameTaken


async def create(pool: Pool, names: list[str]) -> list[int]:
    """Store a record of every name, or none at all; return their ids. Raises NameTaken."""
    query = "INSERT INTO records (name) VALUES (%s) RETURNING id"
    try:
        async with pool.transaction() as connection:
            return [await connection.fetchval(query, name) for name in names]
    except UniqueViolation as error:
        raise NameTaken("There is a record with one of the names") from error
