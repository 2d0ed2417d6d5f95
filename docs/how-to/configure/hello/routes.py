"""One line per URL: ``http`` is public, ``admin`` is for operators only."""

from collections.abc import Mapping

import api_hour
from aiohttp import web

from .endpoints import health, index, records
from .engines import Engines
from .settings import HTTP


def http(settings: HTTP, engines: Engines) -> web.Application:
    """Return the application of the listener ``http``."""
    app = web.Application(middlewares=[api_hour.json_errors], client_max_size=settings.body_limit)
    app[records.POOL] = engines.postgresql
    app[index.GREETING] = settings.greeting
    app.router.add_get("/", index.index)
    app.router.add_get("/records", records.list_page)
    app.router.add_post("/records", records.create)
    app.router.add_get("/records/{id}", records.read)
    app.router.add_delete("/records/{id}", records.delete)
    return app


def admin(container: api_hour.Container, engines: Mapping[str, health.Engine]) -> web.Application:
    """Return the application of the listener ``admin``."""
    app = web.Application(middlewares=[api_hour.json_errors])
    app[health.CONTAINER] = container
    app[health.ENGINES] = engines
    app.router.add_get("/health/live", health.live)
    app.router.add_get("/health/ready", health.ready)
    app.router.add_get("/health/engines", health.engines)
    app.router.add_get("/metrics", api_hour.show_metrics)
    return app
