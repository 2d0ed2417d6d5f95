"""The rows of the table world: read one by one, updated in a batch, or cached."""

from random import randint, sample

from cachetools import LRUCache

from api_hour.plugins.asyncpg import Pool

World = dict[str, int]
Cache = LRUCache[int, World]
ROWS = 10_000
READ = "SELECT id, randomnumber FROM world WHERE id = $1"
WRITE = "UPDATE world SET randomnumber = $2 WHERE id = $1"


def make_cache() -> Cache:
    """Return an empty cache with room for every row."""
    return LRUCache(ROWS)


async def read_one(pool: Pool) -> World:
    """Return a random row."""
    (world,) = await read(pool, 1)
    return world


async def read(pool: Pool, number: int) -> list[World]:
    """Return ``number`` random rows, each read by a query of its own, as the rules demand."""
    async with pool.connection() as connection:
        statement = await connection.prepare(READ)
        return [_world(await statement.fetchrow(key)) for key in _keys(number)]


async def update(pool: Pool, number: int) -> list[World]:
    """Give ``number`` random rows a new number: read one by one, written in one batch.

    In the order of the keys, so that two requests cannot deadlock.
    """
    async with pool.connection() as connection:
        statement = await connection.prepare(READ)
        worlds = [_world(await statement.fetchrow(key)) for key in sorted(_keys(number))]
        for world in worlds:
            world["randomNumber"] = randint(1, ROWS)  # noqa: S311
        await connection.executemany(WRITE, [tuple(world.values()) for world in worlds])
    return worlds


async def read_cached(pool: Pool, cache: Cache, number: int) -> list[World]:
    """Return ``number`` random rows from the cache, after reading those that it lacks."""
    keys = _keys(number)
    missing = [key for key in keys if key not in cache]
    if missing:
        async with pool.connection() as connection:
            for key in missing:
                cache[key] = _world(await connection.fetchrow(READ, key))
    return [cache[key] for key in keys]


def _keys(number: int) -> list[int]:
    """Return distinct random keys."""
    return sample(range(1, ROWS + 1), number)


def _world(row: tuple[int, int]) -> World:
    return {"id": row[0], "randomNumber": row[1]}
