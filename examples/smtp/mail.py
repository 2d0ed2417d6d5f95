"""Mail received over SMTP into PostgreSQL, and listed over HTTP.

``python -m api_hour.plugins.embedded -- api_hour mail:Container`` in this folder; it needs
``pip install aiosmtpd asyncpg``. Then ``curl smtp://127.0.0.1:8025 --mail-from me@example.org
--mail-rcpt you@example.org -T FILE``, and ``curl http://127.0.0.1:8000/``.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import api_hour
import msgspec
from aiohttp import web
from aiosmtpd.smtp import SMTP
from api_hour.plugins.asyncpg import Pool, create_pool
from receiver import Receiver

POOL = web.AppKey("POOL", Pool)
# Workers start side by side: one makes the table, the others wait for it.
SCHEMA = """
    SELECT pg_advisory_xact_lock(1);
    CREATE TABLE IF NOT EXISTS mails (
        id bigserial PRIMARY KEY, sender text, recipients text[], subject text, content bytea
    );
"""


async def index(request: web.Request) -> web.Response:
    pool = request.app[POOL]
    rows = await pool.fetch("SELECT id, sender, recipients, subject FROM mails ORDER BY id")
    return api_hour.JSON([dict(row) for row in rows])


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
        app = web.Application(middlewares=[api_hour.json_errors])
        app[POOL] = self.pool
        app.router.add_get("/", index)
        receiver = Receiver(self.pool)
        smtp = api_hour.StreamServer(lambda: SMTP(receiver), on_drain=receiver.on_drain)
        return {"http": api_hour.HTTPServer(app), "smtp": smtp}
