"""Wait until a condition holds, never longer than a timeout; never sleep and hope."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
TIMEOUT = 60.0  # seconds; ten times what a busy machine needs
PAUSE = 0.01  # seconds between two checks
FAILURE = "the condition did not come true"


def until(
    condition: Callable[[], T],
    failure: str = FAILURE,
    *,
    timeout: float = TIMEOUT,
    pause: float = PAUSE,
) -> T:
    """Return the first true value of ``condition()``, checked every ``pause`` seconds.

    Raises AssertionError with ``failure`` after ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{failure} (waited {timeout:g} s)"
        time.sleep(pause)
    return value


async def until_async(
    condition: Callable[[], T], failure: str = FAILURE, *, timeout: float = TIMEOUT
) -> T:
    """Return the first true value of ``condition()``, while the event loop runs.

    Raises AssertionError with ``failure`` after ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{failure} (waited {timeout:g} s)"
        await asyncio.sleep(PAUSE)
    return value


def seconds_until(condition: Callable[[], object], timeout: float) -> float | None:
    """Measure how many seconds pass until ``condition()`` is true; None after ``timeout``."""
    start = time.monotonic()
    while not condition():
        if time.monotonic() > start + timeout:
            return None
        time.sleep(PAUSE)
    return time.monotonic() - start
