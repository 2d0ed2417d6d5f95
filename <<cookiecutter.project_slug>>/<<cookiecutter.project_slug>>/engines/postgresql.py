"""The connection pool to PostgreSQL; no other file knows the driver's settings."""

from contextlib import AbstractAsyncContextManager

from api_hour.plugins.<< cookiecutter.database >> import Pool, create_pool

from ..settings import PostgreSQL

__all__ = ["Pool", "open_pool"]


def open_pool(settings: PostgreSQL) -> AbstractAsyncContextManager[Pool]:
    """Open the pool, even without a server: queries then raise api_hour.DatabaseUnavailable."""
    return create_pool(
        settings.dsn,
        minsize=settings.minsize,
        maxsize=settings.maxsize,
        acquire_timeout=settings.acquire_timeout,
        statement_timeout=settings.statement_timeout,
<% if cookiecutter.database == "asyncpg" %>
        statement_cache_size=settings.statement_cache_size,
<% endif %>
    )
