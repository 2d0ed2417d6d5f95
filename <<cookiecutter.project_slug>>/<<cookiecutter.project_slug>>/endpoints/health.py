"""Say how this worker is; routed on the listener ``admin`` only."""

from collections.abc import Mapping
from typing import Protocol

import api_hour
from aiohttp import web


class Engine(Protocol):
    """What can be asked whether it is there."""

    async def ping(self) -> None:
        """Return when it answers; raise api_hour.DatabaseError when it does not."""


CONTAINER = web.AppKey("CONTAINER", api_hour.Container)
ENGINES = web.AppKey("ENGINES", Mapping[str, Engine])


async def live(request: web.Request) -> api_hour.JSON:
    """Answer: the event loop runs."""
    return api_hour.JSON({"live": True})


async def ready(request: web.Request) -> api_hour.JSON:
    """Answer 200 from boot to drain; no engine is asked, or its outage would stop every worker."""
    is_ready = request.app[CONTAINER].ready
    return api_hour.JSON({"ready": is_ready}, status=200 if is_ready else 503)


async def engines(request: web.Request) -> api_hour.JSON:
    """Ask each engine; answer 503 when one of them is away."""
    states = {name: await _state(engine) for name, engine in request.app[ENGINES].items()}
    all_up = all(state == "up" for state in states.values())
    return api_hour.JSON({"engines": states}, status=200 if all_up else 503)


async def _state(engine: Engine) -> str:
    try:
        await engine.ping()
    except api_hour.DatabaseError as error:
        return f"down: {error}"
    return "up"
