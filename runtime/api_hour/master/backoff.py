"""How long to wait before a worker that died is replaced; knows only times."""

import math
import time

FIRST = 0.25  # seconds after the second death in a row; the first one is replaced at once
LONGEST = 30.0  # seconds
FORGET = 60.0  # seconds without a death that wipe the slate clean


class Backoff:
    """Double the pause with every death that follows another closely."""

    def __init__(self) -> None:
        self.deaths = 0
        self.until = 0.0  # by time.monotonic()
        self._last = 0.0
        self._owed = 0  # workers

    def note(self) -> float:
        """Take note of a death; return the seconds to wait."""
        now = time.monotonic()
        self.deaths = 1 if now - self._last > FORGET else self.deaths + 1
        self._last = now
        self._owed += 1
        pause = 0.0 if self.deaths == 1 else min(LONGEST, FIRST * 2.0 ** min(self.deaths - 2, 16))
        self.until = now + pause
        return pause

    def reset(self) -> None:
        """Forget every death: what comes next is new code."""
        self.deaths = 0
        self.until = 0.0

    def repay(self) -> bool:
        """Tell whether the worker that is started now takes the place of a dead one."""
        self._owed, owed = max(0, self._owed - 1), self._owed
        return owed > 0

    @property
    def next(self) -> float:
        """Return when the pause ends, by time.monotonic(); infinity when it has ended."""
        return math.inf if self.over() else self.until

    def over(self) -> bool:
        """Tell whether a worker may be started now."""
        return time.monotonic() >= self.until
