"""Shutdown: every in-flight request is answered, and a second TERM waits for nothing."""

import os
import signal
import time

from api_hour.master.arbiter import SAME_STOP
from runtime.tests.chaos.harness import Harness
from testkit.load import Kind, Outcome, Profile
from testkit.waiting import until

DELAY = 6.0  # seconds of stop_delay
SLACK = 10  # a busy machine takes that many times as long as an idle one
LONG = Profile(
    keepalive=1000, fresh=0, rate=2000, timeout=60.0, kinds=(Kind("long", sleep=2.0),), requests=1
)
ENDLESS = Profile(
    keepalive=20, fresh=0, rate=2000, kinds=(Kind("endless", sleep=15.0),), requests=1
)


def stop(harness: Harness) -> None:
    """Send TERM under load: later connections are refused, nothing else is lost."""
    assert harness.daemon.stop() == 0


def stop_with_delay(harness: Harness) -> None:
    """Send TERM to a daemon with a stop delay: until it is over, new connections are served."""
    start = time.monotonic()
    assert harness.daemon.stop() == 0
    _assert_served_until(harness, start)


def stop_group_with_delay(harness: Harness) -> None:
    """Send TERM to every process of the daemon at once, as systemd may: the delay holds."""
    start = time.monotonic()
    os.killpg(harness.daemon.pid, signal.SIGTERM)
    assert harness.daemon.wait() == 0
    _assert_served_until(harness, start)


def _assert_served_until(harness: Harness, start: float) -> None:
    harness.stop_loads()
    load = harness.loads[0]
    since = [record for record in load.records if record.began > start]
    fresh = [record for record in since if record.client >= load.profile.keepalive]
    assert any(record.outcome is Outcome.ANSWERED for record in fresh), (
        "no new connection was served"
    )
    refused = min(record.ended for record in since if record.outcome is Outcome.REFUSED)
    assert refused - start >= DELAY, "refused before the delay was over"


def stop_busy(harness: Harness) -> None:
    """Send TERM with a thousand requests in flight."""
    load = harness.start_load(LONG)
    _wait_begun(harness, LONG.keepalive)
    harness.note(f"{LONG.keepalive - load.answered} in flight")
    assert harness.daemon.stop() == 0
    load.wait()
    assert load.answered == LONG.keepalive


def stop_twice(harness: Harness) -> None:
    """Send TERM again, later, while requests are in flight: the daemon exits at once."""
    load = harness.start_load(ENDLESS)
    _wait_begun(harness, ENDLESS.keepalive)
    mark = harness.daemon.mark()
    harness.daemon.send(signal.SIGTERM)
    harness.daemon.wait_for("Handling signal: term", after=mark)
    assert len(harness.daemon.workers()) > 0
    time.sleep(SAME_STOP)  # until then it is the same stop
    start = time.monotonic()
    harness.daemon.stop()
    seconds = time.monotonic() - start
    harness.note(f"exited after {seconds:.2f} s")
    assert seconds < 1.0 * SLACK
    load.wait()
    assert not any(record.outcome is Outcome.LATE for record in load.records)


def _wait_begun(harness: Harness, count: int) -> None:
    def begun() -> bool:
        notes = harness.project.notes()
        return sum(number for line, number in notes.items() if line.startswith("+")) >= count

    until(begun, f"fewer than {count} requests arrived")
