"""When a worker is to be replaced: after enough requests, at an age, or at a size."""

import os
import random
import time
from typing import Any


class RecyclingLimits:
    """The limits of one worker; zero means no limit.

    Each has a jitter of its own, so that workers of one start are not all replaced at once.
    """

    def __init__(self, cfg: Any, max_requests: int) -> None:
        self._requests = max_requests  # Gunicorn has added the jitter
        self._age = _with_jitter(cfg.max_worker_age, cfg.max_worker_age_jitter)
        self._rss = _with_jitter(cfg.max_worker_rss, cfg.max_worker_rss_jitter)
        self._born = time.monotonic()
        self._asked = False

    def exceeded(self, requests: int) -> str:
        """Return which limit is exceeded, the first time; otherwise an empty text."""
        age, rss = time.monotonic() - self._born, resident() if self._rss else 0
        if self._asked:
            return ""
        if requests >= self._requests:
            reason = f"it has answered {requests} requests"
        elif self._age and age >= self._age:
            reason = f"it is {age:.0f} s old"
        elif self._rss and rss >= self._rss:
            reason = f"it holds {rss >> 20} MiB of memory"
        else:
            return ""
        self._asked = True
        return reason


def _with_jitter(limit: float, jitter: float) -> float:
    return limit + random.uniform(0, jitter) if limit else 0.0  # noqa: S311 - not a secret


def resident() -> int:
    """Return the resident memory of this process in bytes; 0 where Linux' /proc cannot be read.

    Whoever looks must not fail a worker that has no descriptor left.
    """
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
