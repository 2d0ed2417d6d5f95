"""The end of the service: everything in hand is answered, and a second TERM waits for nothing."""

import signal
import time

from runtime.tests.chaos.stage import Stage
from testkit.load import Kind, Outcome, Profile
from testkit.waiting import until

DELAY = 6.0  # seconds of stop_delay
SLACK = 10  # times what the daemon needs on an idle machine
LONG = Profile(
    keepalive=1000, fresh=0, rate=2000, timeout=60.0, kinds=(Kind("long", sleep=2.0),), requests=1
)
ENDLESS = Profile(
    keepalive=20, fresh=0, rate=2000, kinds=(Kind("endless", sleep=15.0),), requests=1
)


def stop(stage: Stage) -> None:
    """Send TERM under load: later connections are refused, and nothing else is lost."""
    assert stage.daemon.stop() == 0


def stop_late(stage: Stage) -> None:
    """Send TERM to a daemon that is to accept for a while yet: new connections are served."""
    start = time.monotonic()
    assert stage.daemon.stop() == 0
    stage.end_loads()
    load = stage.loads[0]
    since = [one for one in load.records if one.began > start]
    fresh = [one for one in since if one.client >= load.profile.keepalive]
    assert any(one.outcome is Outcome.ANSWERED for one in fresh), "no new connection was served"
    refused = min(one.ended for one in since if one.outcome is Outcome.REFUSED)
    assert refused - start >= DELAY, "refused before the delay was over"


def stop_full_hands(stage: Stage) -> None:
    """Send TERM with a thousand requests under way."""
    load = stage.run(LONG)
    _begun(stage, LONG.keepalive)
    stage.note(f"{LONG.keepalive - load.answered} in flight")
    assert stage.daemon.stop() == 0
    load.wait()
    assert load.answered == LONG.keepalive


def stop_twice(stage: Stage) -> None:
    """Send TERM a second time while requests are under way: all ends at once."""
    load = stage.run(ENDLESS)
    _begun(stage, ENDLESS.keepalive)
    mark = stage.daemon.mark()
    stage.daemon.send(signal.SIGTERM)
    stage.daemon.wait_for("Handling signal: term", after=mark)
    assert len(stage.daemon.workers()) > 0
    start = time.monotonic()
    stage.daemon.stop()
    seconds = time.monotonic() - start
    stage.note(f"gone after {seconds:.2f} s")
    assert seconds < 1.0 * SLACK
    load.wait()
    assert not any(one.outcome is Outcome.LATE for one in load.records)


def _begun(stage: Stage, count: int) -> None:
    def begun() -> bool:
        notes = stage.project.notes()
        return sum(number for line, number in notes.items() if line.startswith("+")) >= count

    until(begun, f"not {count} requests arrived")
