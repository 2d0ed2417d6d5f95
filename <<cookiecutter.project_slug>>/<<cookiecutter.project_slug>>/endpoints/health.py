"""The health of this worker, served on the listener ``admin`` only."""

import logging
from collections.abc import Mapping
from typing import Protocol

import api_hour
from aiohttp import web


class Engine(Protocol):
    """An engine that can be pinged."""

    async def ping(self) -> None:
        """Return once it answers; raise api_hour.EngineUnavailable if it does not."""


logger = logging.getLogger(__name__)
CONTAINER = web.AppKey("CONTAINER", api_hour.Container)
ENGINES = web.AppKey("ENGINES", Mapping[str, Engine])


async def live(request: web.Request) -> api_hour.JSON:
    """Answer 200: the event loop is running."""
    return api_hour.JSON({"live": True})


async def ready(request: web.Request) -> api_hour.JSON:
    """Answer 200 from boot to drain. Asking an engine would let its outage stop every worker."""
    is_ready = request.app[CONTAINER].ready
    return api_hour.JSON({"ready": is_ready}, status=200 if is_ready else 503)


async def engines(request: web.Request) -> api_hour.JSON:
    """Ping each engine; answer 503 if one of them is down."""
    states = {name: await _state(name, engine) for name, engine in request.app[ENGINES].items()}
    all_up = all(state == "up" for state in states.values())
    return api_hour.JSON({"engines": states}, status=200 if all_up else 503)


async def _state(name: str, engine: Engine) -> str:
    """Return up or down; why is for the log only, since it may name servers and users."""
    try:
        await engine.ping()
    except (api_hour.DatabaseError, api_hour.EngineUnavailable) as error:
        logger.warning("%s is down: %s", name, error)
        return "down"
    return "up"
