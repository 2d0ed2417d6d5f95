"""Unplanned deaths: workers and masters killed, crashing, blocked. Little is lost."""

import os
import re
import signal
import time
from contextlib import suppress

from runtime.tests.chaos.account import lost_of, percentile
from runtime.tests.chaos.harness import WORKERS, Harness
from testkit.http import get
from testkit.ledger import BLOCKS, DIES_AFTER_BOOT, FORKS, NEVER_READY, SYNTAX_ERROR
from testkit.load import Record
from testkit.processes import session
from testkit.waiting import until

SLACK = 10  # a busy machine takes that many times as long as an idle one
STOPPED = 9.0  # seconds, more than the scenario's timeout
LEAD = 0.5  # seconds
STARTS = 10  # most starts of a crashing worker, in as many seconds


def kill_worker(harness: Harness) -> None:
    """Kill a worker: its in-flight requests are lost, and another one replaces it."""
    mark, victim, start = harness.daemon.mark(), harness.daemon.workers()[0], time.monotonic()
    os.kill(victim, signal.SIGKILL)
    harness.daemon.ready(after=mark)
    replaced = time.monotonic() - start
    harness.note(f"replaced after {replaced:.2f} s")
    assert replaced < 3.0 * SLACK
    harness.calm()
    assert len(harness.errors(mark)) == 1
    assert lost_in_flight_only(harness.loads[0].records, start), (
        "more was lost than the worker had in flight"
    )


def prepare_forks(harness: Harness) -> None:
    """Make each worker fork a child that outlives it for a while."""
    harness.project.append(FORKS)


def kill_forked(harness: Harness) -> None:
    """Kill one worker after the other; each leaves a child that has its files open."""
    for _ in range(3):
        mark = harness.daemon.mark()
        os.kill(harness.ready_workers()[0], signal.SIGKILL)
        harness.daemon.ready(after=mark)
    harness.calm()


def kill_all_forked(harness: Harness) -> None:
    """Kill master and workers: the children of the workers, which live on, hold no port."""
    parents = [harness.daemon.pid, *harness.daemon.workers()]
    for pid in parents:
        os.kill(pid, signal.SIGKILL)
    harness.wait_gone(parents)
    assert session(harness.daemon.pid), "no child has outlived its worker"
    with suppress(ConnectionRefusedError), harness.connect():
        raise AssertionError("a child holds the listening socket")
    assert harness.daemon.wait() == -signal.SIGKILL


def lost_in_flight_only(records: list[Record], start: float) -> bool:
    """Tell whether each client lost at most one request, in flight when the worker died."""
    lost = lost_of(records)
    soon = all(record.began < start + 0.5 * SLACK and record.ended > start for record in lost)
    return soon and len({record.client for record in lost}) == len(lost)


def kill_master(harness: Harness) -> None:
    """Kill the master: its workers finish their requests and exit."""
    worker = harness.daemon.workers()[0]
    with harness.connect_to(worker) as busy, harness.connect_to(worker) as idle:
        busy.send(get("/work", id="busy", gate=1))
        harness.wait_begun("busy")
        harness.daemon.process.kill()
        assert idle.is_closed()
        harness.project.open_gate()
        harness.assert_last(busy.receive(), [worker])
    assert harness.daemon.wait() == -signal.SIGKILL


def kill_reloading_master(harness: Harness) -> None:
    """Kill the master while a worker boots that never becomes ready: it exits, too."""
    harness.project.append(NEVER_READY)
    mark = harness.daemon.mark()
    harness.daemon.send(signal.SIGHUP)
    harness.daemon.wait_for("Booting worker", after=mark)
    harness.daemon.process.kill()
    assert harness.daemon.wait() == -signal.SIGKILL


def kill_held_master(harness: Harness) -> None:
    """Kill the master and at once start another on the same socket."""
    first = harness.daemon
    first.process.kill()
    first.process.wait()
    harness.start_daemon().ready(WORKERS)
    until(lambda: not session(first.process.pid), "a worker outlived its master")
    harness.calm()


def crash_after_boot(harness: Harness) -> None:
    """Kill a worker whose successors all die right after boot: the other one keeps serving."""
    harness.project.append(DIES_AFTER_BOOT)
    mark, (victim, *others) = harness.daemon.mark(), harness.daemon.workers()
    start = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    until(lambda: time.monotonic() > start + STARTS, "the clock stands still")
    starts = [line for line in harness.daemon.lines[mark:] if "Booting worker" in line]
    harness.note(f"{len(starts)} starts in {STARTS} s")
    assert 2 <= len(starts) <= STARTS
    assert set(others) <= set(harness.daemon.workers()), "the good worker exited, too"
    assert any("exit code 7" in line for line in harness.errors(mark))
    harness.project.mend()
    harness.reload()
    harness.calm()


def never_boot(harness: Harness) -> None:
    """Start a project that cannot boot: exit code 1 and one clear error."""
    harness.project.append(SYNTAX_ERROR)
    daemon = harness.start_daemon()
    assert daemon.wait() == 1
    errors = harness.errors(0)
    assert len(errors) == 1, f"expected one error: {errors}"
    assert re.search(r"hello\.py:\d+: SyntaxError", errors[0])
    assert "Traceback" not in daemon.output


def block_loop(harness: Harness) -> None:
    """Block one worker's event loop: the log says where, and the other worker is not slowed."""
    blocked, other = harness.daemon.workers()
    mark = harness.daemon.mark()
    with harness.connect_to(blocked) as peer:
        start = time.monotonic()
        peer.send(get("/block", seconds=60))
        harness.daemon.wait_for(rf"pid: {blocked}\) is blocked", after=mark)
        harness.daemon.wait_for(rf'hello\.py", line {BLOCKS} in block', after=mark)
        harness.daemon.ready(after=mark)
    harness.note(f"replaced after {time.monotonic() - start:.1f} s")
    assert "memory" not in "\n".join(harness.daemon.lines[mark:])
    harness.calm()
    records = [record for record in harness.loads[0].records if record.began > start]
    others = [record for record in records if record.worker == other]
    harness.note(f"p99 of the other worker {percentile(others, 0.99) * 1000:.0f} ms")
    assert 0 < percentile(others, 0.9) < 0.1 * SLACK, "the other worker was slowed"
    assert lost_in_flight_only(harness.loads[0].records, start), (
        "more was lost than the worker had in flight"
    )


def freeze(harness: Harness) -> None:
    """Stop a worker with SIGSTOP, so that it cannot even report where it hangs."""
    mark, start, victim = harness.daemon.mark(), time.monotonic(), harness.daemon.workers()[0]
    os.kill(victim, signal.SIGSTOP)
    harness.daemon.wait_for(rf"pid: {victim}\) is blocked", after=mark)
    harness.daemon.ready(after=mark)
    harness.wait_gone([victim])
    harness.calm()
    assert lost_in_flight_only(harness.loads[0].records, start), (
        "more was lost than the worker had in flight"
    )


def freeze_all(harness: Harness) -> None:
    """Stop master and workers for longer than ``timeout``, then let them go on: nothing is lost."""
    workers = harness.daemon.workers()
    harness.daemon.send_all(signal.SIGSTOP)
    start = time.monotonic()
    until(lambda: time.monotonic() > start + STOPPED, "the clock stands still")
    harness.daemon.send(signal.SIGCONT)
    time.sleep(LEAD)  # the worst order: the master looks while its workers still stand
    harness.daemon.send_all(signal.SIGCONT)
    harness.calm()
    harness.calm()
    assert harness.daemon.workers() == workers, "a healthy worker was killed"
    assert "is blocked" not in harness.daemon.output
