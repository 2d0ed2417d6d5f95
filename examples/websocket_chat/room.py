"""The room's messages: stored in a table, and NOTIFY tells every worker to look there.

A notification alone would be lost while a worker or its connection is being replaced.
"""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import msgspec
from api_hour.plugins.asyncpg import Pool, create_pool

RETRY_DELAY = 1.0  # seconds before the next attempt to listen
SCHEMA = """
    SELECT pg_advisory_xact_lock(1);  -- workers start at the same time
    CREATE TABLE IF NOT EXISTS messages (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        key uuid NOT NULL UNIQUE,
        text text NOT NULL
    );
"""
SAY = "INSERT INTO messages (key, text) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING"
SINCE = "SELECT id, key, text FROM messages WHERE id > $1 ORDER BY id"


class Said(msgspec.Struct):
    """A text, and the sender's key, by which a repeated message is recognised."""

    key: uuid.UUID
    text: str


class Heard(Said):
    id: int


@asynccontextmanager
async def opened(dsn: str) -> AsyncIterator["Room"]:
    """Yield the room while a task listens for notifications."""
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
        async with self.pool.transaction() as db:
            # One at a time: otherwise a lower id could appear after a higher one was read.
            await db.execute("LOCK TABLE messages IN EXCLUSIVE MODE")
            await db.execute(SAY, said.key, said.text)
            await db.execute("NOTIFY messages")

    async def messages(self, last: int) -> AsyncIterator[Heard]:
        """Yield past and future messages after the message ``last``."""
        while True:
            news = self.news  # taken before the query, so that no message is missed
            for row in await self.pool.fetch(SINCE, last):
                yield Heard(**row)
                last = row["id"]
            await news.wait()

    async def listen(self, dsn: str) -> None:
        """Wake those who wait for messages; reconnect whenever the connection ends."""
        while True:
            try:
                connection = await asyncpg.connect(dsn)
                ended = asyncio.Event()
                connection.add_termination_listener(lambda _, ended=ended: ended.set())
                await connection.add_listener("messages", lambda *_: self.wake())
                self.wake()  # for messages that came while nobody listened
                await ended.wait()
            except (OSError, asyncpg.PostgresError) as error:
                logging.warning("Cannot listen to PostgreSQL for now: %s", error)
            await asyncio.sleep(RETRY_DELAY)

    def wake(self) -> None:
        self.news.set()
        self.news = asyncio.Event()
