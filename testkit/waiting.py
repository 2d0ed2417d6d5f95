"""Wait for what a test needs, with a bound; never sleep and hope."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
PATIENCE = 60.0  # seconds; ten times what a busy machine needs


def until(condition: Callable[[], T], failure: str, *, every: float = 0.01) -> T:
    """Return the first true value of ``condition()``; fails with ``failure`` after PATIENCE."""
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < deadline, failure
        time.sleep(every)
    return value
