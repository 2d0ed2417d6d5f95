"""Counters in Redis: ``pip install redis``, then ``api_hour visits:Container`` in this folder.

It needs a Redis server, by default a local one; ``REDIS_URL`` names another.

Try it with ``curl -X POST http://127.0.0.1:8000/visits/home``.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import api_hour
import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

REDIS = web.AppKey("REDIS", Redis)


async def add(request: web.Request) -> web.Response:
    return api_hour.JSON({"visits": await count(request.app[REDIS], request.match_info["page"])})


async def index(request: web.Request) -> web.Response:
    return api_hour.JSON(await counts(request.app[REDIS]))


async def count(redis: Redis, page: str) -> int:
    """Add a visit; Redis counts for all workers."""
    return int(await redis.hincrby("visits", page, 1))


async def counts(redis: Redis) -> dict[str, int]:
    visits = await redis.hgetall("visits")
    return {str(page): int(number) for page, number in visits.items()}


@web.middleware
async def outage(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer 503 while Redis is down; the pool reconnects by itself."""
    try:
        return await handler(request)
    except RedisError as error:
        answer = {"error": f"Redis: {error}"}
        return api_hour.JSON(answer, status=503, headers={"Retry-After": "1"})


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    redis: str


class Container(api_hour.Container):
    settings = Settings

    @asynccontextmanager
    async def engines(self) -> AsyncIterator[None]:
        pool = BlockingConnectionPool.from_url(
            self.config.redis,
            max_connections=10,
            timeout=3,  # seconds to wait for a free connection
            socket_timeout=2,
            # A retry after a lost answer would count the visit twice.
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
        )
        async with Redis.from_pool(pool) as self.redis:
            yield

    def servers(self) -> dict[str, api_hour.Server]:
        app = web.Application(middlewares=[outage])
        app[REDIS] = self.redis
        app.add_routes([web.get("/", index), web.post("/visits/{page}", add)])
        return {"http": api_hour.HTTPServer(app)}
