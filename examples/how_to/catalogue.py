"""Articles, in pages: ``python -m api_hour.plugins.embedded -- api_hour catalogue:Container``.

It needs ``pip install asyncpg``.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import api_hour
import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler
from api_hour.plugins.asyncpg import Pool, create_pool

LEAST = 1400  # bytes: what fits into one packet gains nothing by compression
SCHEMA = """
    SELECT pg_advisory_xact_lock(3);  -- workers start at the same time
    CREATE TABLE IF NOT EXISTS articles (
        id bigint PRIMARY KEY,
        name text NOT NULL,
        category text NOT NULL,
        cents integer NOT NULL,
        version integer NOT NULL DEFAULT 1
    );
    CREATE INDEX IF NOT EXISTS articles_by_price ON articles (category, cents, id);
    INSERT INTO articles
        SELECT n, 'Article ' || n, (ARRAY['book', 'tool'])[1 + n % 2], n % 7 * 100
        FROM generate_series(1, 200) n
        ON CONFLICT DO NOTHING;
"""
PAGE = """
    SELECT id, name, category, cents, version FROM articles
    WHERE category = $1 AND cents <= $2 AND (cents, id) > ($3, $4)
    ORDER BY cents, id LIMIT $5
"""
ONE = "SELECT id, name, category, cents, version FROM articles WHERE id = $1"

Int = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]  # what an integer of PostgreSQL holds


class Article(msgspec.Struct):
    id: int
    name: str
    category: str
    cents: int
    version: int


class Page(msgspec.Struct):
    """Some articles, and where the next ones begin: null at the end."""

    articles: list[Article]
    next: str | None


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """The sort key of the last article that a client has seen."""

    cents: Int
    id: Int

    @classmethod
    def read(cls, text: str) -> "Cursor":
        try:
            return msgspec.json.decode(urlsafe_b64decode(text), type=cls)
        except ValueError:  # those of base64 and of msgspec are of this kind
            raise web.HTTPUnprocessableEntity(text="after must be next of a page") from None

    def __str__(self) -> str:
        return urlsafe_b64encode(msgspec.json.encode(self)).decode()


class Wanted(msgspec.Struct, frozen=True):
    """Which articles to list, the cheapest first."""

    category: api_hour.Text
    at_most: Int = 2**31 - 1  # cents
    after: str | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=100)] = 50


async def list_articles(wanted: api_hour.Query[Wanted], pool: Pool) -> Page:
    """List the articles of a category."""
    after = Cursor.read(wanted.after) if wanted.after else Cursor(0, 0)
    rows = await pool.fetch(
        PAGE, wanted.category, wanted.at_most, after.cents, after.id, wanted.limit + 1
    )
    articles = [Article(*row) for row in rows[: wanted.limit]]
    more = len(rows) > wanted.limit  # one row more tells it, without a COUNT
    return Page(articles, str(Cursor(articles[-1].cents, articles[-1].id)) if more else None)


async def read(id: Int, request: web.Request, pool: Pool) -> api_hour.Reply[Article]:
    """Return an article, or a 304 if the client has this version of it."""
    row = await pool.fetchrow(ONE, id)
    if row is None:
        raise web.HTTPNotFound(text=f"There is no article {id}")
    article = Article(*row)
    headers = {"ETag": f'W/"{article.version}"', "Cache-Control": "no-cache"}
    if any(tag.value == str(article.version) for tag in request.if_none_match or ()):
        raise web.HTTPNotModified(headers=headers)
    return api_hour.Reply(article, headers=headers)


@web.middleware
async def compress(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Compress what is long enough, for clients that take it."""
    response = await handler(request)
    if isinstance(response, web.Response) and (response.content_length or 0) > LEAST:
        response.headers.add("Vary", "Accept-Encoding")
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            response.enable_compression(web.ContentCoding.gzip)
    return response


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
        app = web.Application(middlewares=[compress])
        api = api_hour.API(app, title="Catalogue", version="1.0")
        api.provide(self.pool)
        api.get("/articles", list_articles)
        api.get("/articles/{id}", read, errors=[404])
        return {"http": api_hour.HTTPServer(app)}
