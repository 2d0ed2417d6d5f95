"""The first page."""

import logging

import api_hour
from aiohttp import web
from prometheus_client import Counter

GREETINGS = Counter("greetings", "How often somebody was greeted")
logger = logging.getLogger(__name__)


async def index(request: web.Request) -> api_hour.JSON:
    """Greet."""
    GREETINGS.inc()
    logger.info("Greeting %s", request.remote)
    return api_hour.JSON({"message": "Hello, World!"})
