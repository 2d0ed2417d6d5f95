"""The first page."""

import msgspec


class Greeting(msgspec.Struct, frozen=True):
    """A greeting."""

    message: str


async def index() -> Greeting:
    """Greet."""
    return Greeting("Hello, World!")
