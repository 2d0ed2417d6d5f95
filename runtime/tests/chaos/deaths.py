"""Deaths nobody planned: workers and masters killed, crashing, blocked. Little is lost."""

import os
import re
import signal
import time

from runtime.tests.chaos.account import lost_of, percentile
from runtime.tests.chaos.stage import WORKERS, Stage
from testkit.http import get
from testkit.ledger import BLOCKS, DIES_AFTER_BOOT, FORKS, NEVER_READY, SYNTAX_ERROR
from testkit.load import Record
from testkit.processes import session
from testkit.waiting import until

SLACK = 10  # times what the daemon needs on an idle machine
STARTS = 10  # of a crashing worker, in as many seconds


def kill_worker(stage: Stage) -> None:
    """Kill a worker: what it had in hand is lost, and another one takes its place."""
    mark, victim, start = stage.daemon.mark(), stage.daemon.workers()[0], time.monotonic()
    os.kill(victim, signal.SIGKILL)
    stage.daemon.ready(after=mark)
    replaced = time.monotonic() - start
    stage.note(f"replaced after {replaced:.2f} s")
    assert replaced < 3.0 * SLACK
    stage.calm()
    assert len(stage.errors(mark)) == 1
    assert in_hand(stage.loads[0].records, start), "more was lost than the worker had in hand"


def prepare_forks(stage: Stage) -> None:
    """Let each worker fork a child that outlives it for a while."""
    stage.project.append(FORKS)


def kill_forked(stage: Stage) -> None:
    """Kill one worker after the other, each of which leaves a child with its open files behind."""
    for _ in range(3):
        mark = stage.daemon.mark()
        os.kill(stage.ready_workers()[0], signal.SIGKILL)
        stage.daemon.ready(after=mark)
    stage.calm()


def in_hand(records: list[Record], start: float) -> bool:
    """Tell whether each client lost one request at most, under way when the worker died."""
    lost = lost_of(records)
    soon = all(one.began < start + 0.5 * SLACK and one.ended > start for one in lost)
    return soon and len({one.client for one in lost}) == len(lost)


def kill_master(stage: Stage) -> None:
    """Kill the master: its workers finish what they have and leave."""
    worker = stage.daemon.workers()[0]
    with stage.peer_of(worker) as busy, stage.peer_of(worker) as idle:
        busy.send(get("/work", id="busy", gate=1))
        stage.begun("busy")
        stage.daemon.process.kill()
        assert idle.is_closed()
        stage.project.open_gate()
        stage.last_word(busy.receive(), [worker])
    assert stage.daemon.wait() == -signal.SIGKILL


def kill_reloading_master(stage: Stage) -> None:
    """Kill the master while a worker boots that will never be ready: it leaves as well."""
    stage.project.append(NEVER_READY)
    mark = stage.daemon.mark()
    stage.daemon.send(signal.SIGHUP)
    stage.daemon.wait_for("Booting worker", after=mark)
    stage.daemon.process.kill()
    assert stage.daemon.wait() == -signal.SIGKILL


def kill_held_master(stage: Stage) -> None:
    """Kill the master and start another at once behind the same socket."""
    first = stage.daemon
    first.process.kill()
    first.process.wait()
    stage.launch().ready(WORKERS)
    until(lambda: not session(first.process.pid), "a worker outlived its master")
    stage.calm()


def crash_after_boot(stage: Stage) -> None:
    """Kill a worker whose successors all die right after boot: the other one serves on."""
    stage.project.append(DIES_AFTER_BOOT)
    mark, (victim, *others) = stage.daemon.mark(), stage.daemon.workers()
    start = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    until(lambda: time.monotonic() > start + STARTS, "time stands still")
    starts = [line for line in stage.daemon.lines[mark:] if "Booting worker" in line]
    stage.note(f"{len(starts)} starts in {STARTS} s")
    assert 2 <= len(starts) <= STARTS
    assert set(others) <= set(stage.daemon.workers()), "the good worker went too"
    assert any("exit code 7" in line for line in stage.errors(mark))
    stage.project.mend()
    stage.reload()
    stage.calm()


def never_boot(stage: Stage) -> None:
    """Start a project that cannot boot: exit code 1 and one clear error."""
    stage.project.append(SYNTAX_ERROR)
    daemon = stage.launch()
    assert daemon.wait() == 1
    errors = stage.errors(0)
    assert len(errors) == 1, f"not one error: {errors}"
    assert re.search(r"hello\.py:\d+: SyntaxError", errors[0])
    assert "Traceback" not in daemon.output


def block_loop(stage: Stage) -> None:
    """Block one worker's loop: the log says where, and the other worker notices nothing."""
    blocked, other = stage.daemon.workers()
    mark = stage.daemon.mark()
    with stage.peer_of(blocked) as peer:
        start = time.monotonic()
        peer.send(get("/block", seconds=60))
        stage.daemon.wait_for(rf"pid: {blocked}\) is blocked", after=mark)
        stage.daemon.wait_for(rf'hello\.py", line {BLOCKS} in block', after=mark)
        stage.daemon.ready(after=mark)
    stage.note(f"replaced after {time.monotonic() - start:.1f} s")
    assert "memory" not in "\n".join(stage.daemon.lines[mark:])
    stage.calm()
    records = [one for one in stage.loads[0].records if one.began > start]
    others = [one for one in records if one.worker == other]
    stage.note(f"p99 of the other worker {percentile(others, 0.99) * 1000:.0f} ms")
    assert 0 < percentile(others, 0.9) < 0.1 * SLACK, "the other worker was held up"
    assert in_hand(stage.loads[0].records, start), "more was lost than the worker had in hand"


def freeze(stage: Stage) -> None:
    """Stop a worker with SIGSTOP, so that it cannot even say where it hangs."""
    mark, start, victim = stage.daemon.mark(), time.monotonic(), stage.daemon.workers()[0]
    os.kill(victim, signal.SIGSTOP)
    stage.daemon.wait_for(rf"pid: {victim}\) is blocked", after=mark)
    stage.daemon.ready(after=mark)
    stage.gone([victim])
    stage.calm()
    assert in_hand(stage.loads[0].records, start), "more was lost than the worker had in hand"
