"""The first page."""

import msgspec

from ..settings import HTTP


class Greeting(msgspec.Struct, frozen=True):
    """A greeting."""

    message: str


async def index(settings: HTTP) -> Greeting:
    """Greet."""
    return Greeting(settings.greeting)
