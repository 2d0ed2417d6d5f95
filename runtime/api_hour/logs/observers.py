"""Faults of what only observes: they are counted and told, and never reach what serves.

Logs, metrics, tracing, status and hooks that only tell may fail at any moment: no folder, a full
disk, a slow reader, an exception in a user's class. Whoever calls an observer catches everything
and calls ``failed``. That tells the fault on stderr, because the log itself may be at fault, at
most once a minute for each observer. The metrics show the counts as ``observer_faults_total``.

Standard library only, so that every part may import it.
"""

import os
import sys
import time
from contextlib import suppress

from api_hour.logs import streams

PAUSE = 60.0  # seconds between two lines about the same observer
MAX_LENGTH = 1000  # characters of an error that are told

counts: dict[str, int] = {}  # faults of this process since it was forked, by observer
_told: dict[str, tuple[float, int]] = {}  # when each observer's fault was told, and its count then


def failed(observer: str, error: BaseException) -> None:
    """Count a fault of ``observer`` ("log", say), and tell it; never raises, never waits."""
    counts[observer] = count = counts.get(observer, 0) + 1
    now = time.monotonic()
    last, before = _told.get(observer, (-PAUSE, 0))
    if now - last < PAUSE:
        return
    _told[observer] = now, count
    untold = count - 1 - before
    more = f" ({untold} more since the last line)" if untold else ""
    # In printable ASCII: it may hold what a client has sent.
    text = ascii(describe(error)[:MAX_LENGTH])[1:-1][:MAX_LENGTH]
    line = f"[{os.getpid()}] [ERROR] [{__name__}] {observer} failed: {text}{more}\n"
    with suppress(Exception):  # stderr is closed or full, or not a file; the count stays
        streams.of(sys.stderr).write(line.encode())


def describe(error: BaseException) -> str:
    """Return the kind and the text of an error on one line; never raises."""
    try:
        text = str(error)
    except BaseException as second:
        text = f"its text raises {type(second).__name__}"
    return f"{type(error).__name__}: {' '.join(text.split())}"


def _forget() -> None:
    """Start anew in a child: its parent has counted, and told, what was before."""
    counts.clear()
    _told.clear()


os.register_at_fork(after_in_child=_forget)
