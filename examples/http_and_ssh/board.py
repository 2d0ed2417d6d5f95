"""Lines typed over SSH, read over HTTP from any worker.

``python -m api_hour.plugins.embedded -- api_hour board:Container`` in this folder; it needs
``pip install asyncpg asyncssh`` and two files: the daemon's own key, made by ``ssh-keygen -q -N ''
-t ed25519 -f host_key``, and ``authorized_keys`` with your public key. Then ``ssh -p 8022
127.0.0.1``, type some lines, and ``curl http://127.0.0.1:8000/``.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import api_hour
import msgspec
from aiohttp import web
from api_hour.plugins.asyncpg import Pool, create_pool
from shell import Shell

POOL = web.AppKey("POOL", Pool)
# Workers start at the same time: one creates the table, the others wait for it.
SCHEMA = """
    SELECT pg_advisory_xact_lock(1);
    CREATE TABLE IF NOT EXISTS lines (id bigserial PRIMARY KEY, who text, line text);
"""


async def index(request: web.Request) -> web.Response:
    rows = await request.app[POOL].fetch("SELECT id, who, line FROM lines ORDER BY id")
    return api_hour.JSON([dict(row) for row in rows])


async def keep(pool: Pool, who: str, line: str) -> int:
    """Store the line where every worker can read it; return its number."""
    insert = "INSERT INTO lines (who, line) VALUES ($1, $2) RETURNING id"
    return int(await pool.fetchval(insert, who, line))


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    dsn: str
    host_key: str
    authorized_keys: str


class Container(api_hour.Container):
    settings = Settings

    @asynccontextmanager
    async def engines(self) -> AsyncIterator[None]:
        async with create_pool(self.config.dsn) as self.pool:
            async with self.pool.connection() as db:
                await db.execute(SCHEMA)
            yield

    def servers(self) -> dict[str, api_hour.Server]:
        app = web.Application(middlewares=[api_hour.json_errors])
        app[POOL] = self.pool
        app.router.add_get("/", index)
        shell = Shell(
            lambda who, line: keep(self.pool, who, line),
            # From a file: a key generated here would be different in each worker.
            host_key=self.config.host_key,
            authorized_keys=self.config.authorized_keys,
        )
        return {"http": api_hour.HTTPServer(app), "ssh": shell}
