"""One line per URL: ``http`` is public, ``admin`` is for operators only."""

from collections.abc import Mapping

import api_hour
from aiohttp import web

from .endpoints import health, index, records, statistics
from .engines import Engines
from .settings import HTTP

# The API, as its document calls it; most releases leave its version as it is.
TITLE = "hello"
VERSION = "1.0"


def http(settings: HTTP, engines: Engines) -> web.Application:
    """Return the application of the listener ``http``; its endpoints are typed."""
    app = web.Application(client_max_size=settings.body_limit)
    api = api_hour.API(app, title=TITLE, version=VERSION, docs=settings.docs)
    api.provide(engines.postgresql)
    key = [api_hour.APIKey(settings.api_key)] if settings.api_key else []
    api.get("/", index.index)
    api.get("/records", records.list_page)
    api.post("/records", records.create, status=201, errors=[409], security=key)
    api.get("/records/{id}", records.read, errors=[404])
    api.delete("/records/{id}", records.delete, errors=[404], security=key)
    api.get("/statistics", statistics.show)
    return app


def admin(container: api_hour.Container, engines: Mapping[str, health.Engine]) -> web.Application:
    """Return the application of the listener ``admin``; its endpoints are aiohttp's handlers."""
    app = web.Application(middlewares=[api_hour.json_errors])
    app[health.CONTAINER] = container
    app[health.ENGINES] = engines
    app.router.add_get("/health/live", health.live)
    app.router.add_get("/health/ready", health.ready)
    app.router.add_get("/health/engines", health.engines)
    app.router.add_get("/metrics", api_hour.show_metrics)
    return app
