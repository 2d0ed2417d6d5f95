"""The connection pool to PostgreSQL; no other file knows the driver and its settings."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import api_hour
from api_hour.plugins.<< cookiecutter.database >> import Pool, create_pool
<% if cookiecutter.database == "asyncpg" %>
from asyncpg import UniqueViolationError as UniqueViolation
<% else %>
from psycopg2.errors import UniqueViolation
<% endif %>

from ..settings import PostgreSQL

__all__ = ["Pool", "UniqueViolation", "open_pool"]


@asynccontextmanager
async def open_pool(settings: PostgreSQL) -> AsyncIterator[Pool]:
    """Open the pool, even without a server: queries then raise api_hour.DatabaseUnavailable."""
    async with (
        create_pool(
            settings.dsn,
            minsize=settings.minsize,
            maxsize=settings.maxsize,
            acquire_timeout=settings.acquire_timeout,
            statement_timeout=settings.statement_timeout,
<% if cookiecutter.database == "asyncpg" %>
            statement_cache_size=settings.statement_cache_size,
<% endif %>
        ) as pool,
        api_hour.observed("postgresql", pool),
    ):
        yield pool
