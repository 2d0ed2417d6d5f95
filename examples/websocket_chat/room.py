"""What is said in the room: kept in a table, and NOTIFY tells every worker to look there.

A notification alone would be lost while a worker, or its connection, is being replaced.
"""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import msgspec
from api_hour.plugins.asyncpg import Pool, create_pool

PAUSE = 1.0  # seconds before the next try to listen
SCHEMA = """
    SELECT pg_advisory_xact_lock(1);  -- workers start side by side
    CREATE TABLE IF NOT EXISTS messages (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        key uuid NOT NULL UNIQUE,
        text text NOT NULL
    );
"""
SAY = "INSERT INTO messages (key, text) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING"
SINCE = "SELECT id, key, text FROM messages WHERE id > $1 ORDER BY id"


class Said(msgspec.Struct):
    """Hold a text and its sender's key, by which one that is sent again is known."""

    key: uuid.UUID
    text: str


class Heard(Said):
    id: int


@asynccontextmanager
async def opened(dsn: str) -> AsyncIterator["Room"]:
    """Yield the room while a task listens."""
    async with create_pool(dsn) as pool, asyncio.TaskGroup() as tasks:
        async with pool.connection() as db:
            await db.execute(SCHEMA)
        room = Room(pool)
        listening = tasks.create_task(room.listen(dsn))
        yield room
        listening.cancel()


class Room:
    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.news = asyncio.Event()

    async def say(self, said: Said) -> None:
        async with self.pool.connection() as db, db.transaction():
            # One at a time: else a lower id could show up after a higher one was read.
            await db.execute("LOCK TABLE messages IN EXCLUSIVE MODE")
            await db.execute(SAY, said.key, said.text)
            await db.execute("NOTIFY messages")

    async def messages(self, last: int) -> AsyncIterator[Heard]:
        """Yield what was, and what will be, said after the message ``last``."""
        while True:
            news = self.news  # taken before the look, so that nothing comes in between
            async with self.pool.connection() as db:
                rows = await db.fetch(SINCE, last)
            for row in rows:
                yield Heard(**row)
                last = row["id"]
            await news.wait()

    async def listen(self, dsn: str) -> None:
        """Wake who waits for messages; on a new connection, when that one ends."""
        while True:
            try:
                connection = await asyncpg.connect(dsn)
                ended = asyncio.Event()
                connection.add_termination_listener(lambda _, ended=ended: ended.set())
                await connection.add_listener("messages", lambda *_: self.wake())
                self.wake()  # for what was said while nobody listened
                await ended.wait()
            except (OSError, asyncpg.PostgresError) as error:
                logging.warning("Cannot listen to PostgreSQL for now: %s", error)
            await asyncio.sleep(PAUSE)

    def wake(self) -> None:
        self.news.set()
        self.news = asyncio.Event()
