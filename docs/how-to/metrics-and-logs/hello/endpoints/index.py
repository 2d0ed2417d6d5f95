"""The first page."""

import logging

import msgspec
from aiohttp import web
from prometheus_client import Counter

GREETINGS = Counter("greetings", "How often somebody was greeted")
logger = logging.getLogger(__name__)


class Greeting(msgspec.Struct, frozen=True):
    """A greeting."""

    message: str


async def index(request: web.Request) -> Greeting:
    """Greet."""
    GREETINGS.inc()
    logger.info("Greeting %s", request.remote)
    return Greeting("Hello, World!")
