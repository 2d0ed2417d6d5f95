"""Which event loop a worker runs on."""

import asyncio
from collections.abc import Callable

from api_hour.exceptions import ConfigError


def factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes a loop: ``uvloop``, ``asyncio``, or ``auto`` for the faster one there is.

    Raises ConfigError when uvloop is asked for and not installed.
    """
    if name != "asyncio":
        try:
            import uvloop

            return uvloop.new_event_loop
        except ImportError:
            if name == "uvloop":
                raise ConfigError("loop: uvloop is not installed: pip install uvloop") from None
    return asyncio.new_event_loop
