"""How long to wait before a dead worker is replaced. Knows only times."""

import math
import time

FIRST_PAUSE = 0.25  # seconds after the second death in a row; the first one costs no pause
MAX_PAUSE = 30.0  # seconds between boots that fail
MAX_GAP = 1.0  # seconds between deaths of workers that were ready: somebody has to serve
RESET_AFTER = 60.0  # seconds without a death after which the series begins anew


class Backoff:
    """Doubles the pause, up to ``longest``, with every death that closely follows another."""

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self.deaths = 0
        self.until = 0.0  # by time.monotonic()
        self._last_death = -math.inf
        self.to_replace = 0  # workers that died

    def note(self) -> float:
        """Count a death; return the seconds to wait before the next start."""
        now = time.monotonic()
        self.deaths = 1 if now - self._last_death > RESET_AFTER else self.deaths + 1
        self._last_death = now
        doublings = min(self.deaths - 2, 16)  # far beyond any pause; 2.0**1024 would raise
        pause = 0.0 if self.deaths == 1 else min(self._longest, FIRST_PAUSE * 2.0**doublings)
        self.until = now + pause
        return pause

    def reset(self) -> None:
        """Forget every death: workers can boot, or the next one runs new code."""
        self.deaths = 0
        self.until = 0.0

    def replaces_a_death(self) -> bool:
        """Count a start; tell whether it replaces a worker that died."""
        self.to_replace, deaths = max(0, self.to_replace - 1), self.to_replace
        return deaths > 0

    @property
    def next(self) -> float:
        """Return when the pause ends, by time.monotonic(); infinity without a pause."""
        return math.inf if self.over() else self.until

    def over(self) -> bool:
        """Tell whether a worker may be started now."""
        return time.monotonic() >= self.until
