"""How many random examples a test takes, and how hypothesis finds them."""

import os
from typing import Any

from hypothesis import HealthCheck, Phase, settings

# The same ones every time.
SAME: dict[str, Any] = {"derandomize": True}
# New ones every time; a failure is a few hundred bytes, which need no day to become fewer.
UNSHRUNK: dict[str, Any] = {"phases": [Phase.explicit, Phase.generate]}


def count(usual: int) -> int:
    """Return the EXAMPLES of the environment, or ``usual`` without them."""
    return int(os.environ.get("EXAMPLES", usual))


def bounded(examples: int, kind: dict[str, Any]) -> settings:
    """Return the settings of a test with so many examples, SAME or UNSHRUNK."""
    every = list(HealthCheck)
    return settings(
        max_examples=examples, deadline=None, database=None, suppress_health_check=every, **kind
    )
