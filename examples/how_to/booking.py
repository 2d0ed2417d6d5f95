"""Seats of a concert: ``python -m api_hour.plugins.embedded -- api_hour booking:Container``.

It needs ``pip install asyncpg``.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated
from uuid import UUID

import api_hour
import msgspec
from aiohttp import web
from api_hour.plugins.asyncpg import Pool, create_pool
from asyncpg import ForeignKeyViolationError, UniqueViolationError

SCHEMA = """
    SELECT pg_advisory_xact_lock(2);  -- workers start at the same time
    CREATE TABLE IF NOT EXISTS concerts (id bigint PRIMARY KEY, free integer NOT NULL);
    CREATE TABLE IF NOT EXISTS bookings (
        key uuid PRIMARY KEY,
        concert bigint NOT NULL REFERENCES concerts,
        seat text NOT NULL,
        UNIQUE (concert, seat)
    );
    INSERT INTO concerts VALUES (1, 2) ON CONFLICT DO NOTHING;
"""
TAKE = "UPDATE concerts SET free = free - 1 WHERE id = $1 AND free > 0 RETURNING free"
STORE = "INSERT INTO bookings (key, concert, seat) VALUES ($1, $2, $3)"
DONE = "SELECT 1 FROM bookings WHERE (key, concert, seat) = ($1, $2, $3)"


Id = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]  # what a bigint holds


class NewBooking(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A seat, and a key that the client makes once and repeats with each retry."""

    key: UUID
    seat: Annotated[api_hour.Text, msgspec.Meta(min_length=1, max_length=10)]


class Booking(msgspec.Struct):
    concert: int
    seat: str


async def book(id: Id, new: api_hour.Body[NewBooking], pool: Pool) -> api_hour.Reply[Booking]:
    """Book a seat."""
    booking = Booking(id, new.seat)
    try:
        async with pool.transaction() as db:
            await db.execute(STORE, new.key, id, new.seat)
            if await db.fetchval(TAKE, id) is None:
                raise web.HTTPConflict(text="The concert is sold out")
            return api_hour.Reply(booking)  # its JSON is written before COMMIT
    except ForeignKeyViolationError as error:
        raise web.HTTPNotFound(text=f"There is no concert {id}") from error
    except UniqueViolationError as error:
        if await pool.fetchval(DONE, new.key, id, new.seat):
            return api_hour.Reply(booking, status=200)
        raise web.HTTPConflict(text=f"Seat {new.seat} is taken") from error


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    dsn: str


class Container(api_hour.Container):
    settings = Settings

    @asynccontextmanager
    async def engines(self) -> AsyncIterator[None]:
        async with create_pool(self.config.dsn) as self.pool:
            async with self.pool.connection() as db:
                await db.execute(SCHEMA)
            yield

    def servers(self) -> dict[str, api_hour.Server]:
        app = web.Application()
        api = api_hour.API(app, title="Bookings", version="1.0")
        api.provide(self.pool)
        api.post("/concerts/{id}/bookings", book, status=201, errors=[404, 409])
        return {"http": api_hour.HTTPServer(app)}
