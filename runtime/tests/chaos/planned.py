"""Planned events: reload, scale, upgrade, recycle, restart. Each must cost no request at all."""

import os
import signal
import time
from contextlib import ExitStack, suppress

from runtime.tests.chaos.account import percentile
from runtime.tests.chaos.stage import GRACE, STARTING, WORKERS, Stage
from testkit.http import get, post
from testkit.ledger import SLOW_IMPORT
from testkit.waiting import TIMEOUT, until

GAP = 0.5  # seconds between two requests of a client; its slack is the rest of the window


def reload_thrice(stage: Stage) -> None:
    """Send HUP three times, each after the one before is through."""
    for _ in range(3):
        stage.reload()
        stage.calm()


def overlap(stage: Stage) -> None:
    """Let planned events fall into one another: nobody waits for the one before."""
    steps = ["HUP", "TTIN", "HUP", "TTIN", "TERM", "HUP", "TTOU", "HUP", "TERM", "TTOU"]
    for name in steps:
        mark = stage.daemon.mark()
        if name == "TERM":
            for pid in stage.ready_workers():
                with suppress(ProcessLookupError):  # it drained, and has left by now
                    os.kill(pid, signal.SIGTERM)
        else:
            stage.daemon.send(signal.Signals[f"SIG{name}"])
            stage.daemon.wait_for(f"Handling signal: {name.lower()}", after=mark)
    stage.reload()
    stage.shrunk(WORKERS)
    stage.calm()


def reload_slow_import(stage: Stage) -> None:
    """Reload code that takes three seconds to import: nobody waits for it."""
    stage.project.append(SLOW_IMPORT)
    start = time.monotonic()
    stage.reload()
    assert stage.fewest() >= WORKERS, "an old worker left before the new one was ready"
    meanwhile = [one for one in stage.loads[0].records if one.began > start]
    stage.note(f"p99 during the import {percentile(meanwhile, 0.99) * 1000:.0f} ms")
    # A client asks again at its pace: had they waited, there would be no others.
    assert percentile(meanwhile, 0.9) < 1.0, "requests waited while new code was imported"


def scale(stage: Stage) -> None:
    """Add two workers one by one, then take two away."""
    for count in (WORKERS + 1, WORKERS + 2):
        mark = stage.daemon.mark()
        stage.daemon.send(signal.SIGTTIN)
        stage.daemon.ready(after=mark)
        assert len(stage.daemon.workers()) == count
        stage.calm()
    for count in (WORKERS + 1, WORKERS):
        stage.daemon.send(signal.SIGTTOU)
        stage.shrunk(count)
        stage.calm()


def upgrade(stage: Stage) -> None:
    """Start a new master with USR2, then end the old one."""
    old, master = stage.daemon.workers(), _second_master(stage)
    stage.calm()
    stage.heir = master
    stage.daemon.send(signal.SIGTERM)
    assert stage.daemon.process.wait(TIMEOUT) == 0
    stage.gone(old)
    stage.calm()


def roll_back(stage: Stage) -> None:
    """Start a new master with USR2, then end it: the old one serves on."""
    old, master = stage.daemon.workers(), _second_master(stage)
    stage.calm()
    os.kill(master, signal.SIGTERM)
    stage.gone([master])
    until(lambda: stage.daemon.workers() == old, "workers of the new master are left")
    stage.calm()
    stage.reload()


def _second_master(stage: Stage) -> int:
    mark = stage.daemon.mark()
    stage.daemon.send(signal.SIGUSR2)
    found = stage.daemon.wait_for(STARTING, after=mark)
    stage.daemon.ready(WORKERS, after=mark)
    return int(found[1])


def recycle(stage: Stage) -> None:
    """Let the workers reach their limit, and a successor reach it too: it comes first each time."""
    stage.daemon.ready(2 * WORKERS + 1)
    stage.daemon.wait_for("left: exit code 0", count=WORKERS)
    assert stage.fewest() >= WORKERS, "a worker left before its successor was ready"
    stage.calm()


def recycle_memory(stage: Stage) -> None:
    """Let each worker take more memory than it may: both are replaced, one after the other."""
    old = stage.daemon.workers()
    for pid in old:
        with stage.peer_of(pid) as peer:
            assert peer.ask("/grow", size=300_000_000).status == 200
    stage.gone(old)
    assert stage.fewest() >= WORKERS, "a worker left before its successor was ready"
    stage.calm()


def restart_held(stage: Stage) -> None:
    """End the daemon and start it again behind a socket that the supervisor keeps."""
    for _ in range(2):
        assert stage.daemon.stop() == 0
        stage.launch().ready(WORKERS)
        stage.calm()


def retire_one(stage: Stage) -> None:
    """Send TERM to one worker that holds connections of every kind."""
    chosen = stage.daemon.workers()[0]
    with ExitStack() as stack:
        fresh, idle, busy, half = (stack.enter_context(stage.peer_of(chosen)) for _ in range(4))
        idle.ask(id="idle-1")
        busy.send(get("/work", id="busy", gate=1))
        request = get("/work", id="half")
        half.send(request[:20])
        stage.begun("busy")
        mark = stage.daemon.mark()
        os.kill(chosen, signal.SIGTERM)
        stage.daemon.ready(after=mark)
        half.send(request[20:])
        stage.project.open_gate()
        answers = {
            "fresh": fresh.ask(id="fresh"),
            "idle": idle.ask(id="idle-2"),
            "half sent": half.receive(),
            "in flight": busy.receive(),
        }
        for name, answer in answers.items():
            stage.last_word(answer, [chosen], name)
        assert all(peer.is_closed() for peer in (fresh, idle, half, busy))
    stage.gone([chosen])
    assert len(stage.daemon.workers()) == WORKERS


def outlast_window(stage: Stage) -> None:
    """Let an answer, and the beginning of a request, outlive the window; then ask again."""
    old, request = stage.daemon.workers(), get("/work", id="half")
    with ExitStack() as stack:
        streams, halves, idle = (
            [stack.enter_context(stage.peer_of(pid)) for pid in old] for _ in range(3)
        )
        for stream, half in zip(streams, halves, strict=True):
            stream.send(get("/stream"))
            half.send(request[:20])
        assert all(peer.has_data() for peer in streams)
        stage.daemon.send(signal.SIGHUP)
        assert all(peer.is_closed() for peer in idle)  # the window is over
        stage.project.open_gate()
        answers = [peer.receive() for peer in streams]
        assert [one.closes for one in answers] == [False] * WORKERS
        time.sleep(GAP)
        for peer in streams:
            stage.last_word(peer.ask(id="after"), old, "asked after a long answer")
        for peer in halves:
            peer.send(request[20:])
            stage.last_word(peer.receive(), old, "sent in two parts")
    stage.gone(old)


def close_idle(stage: Stage) -> None:
    """Reload beside idle connections: the end of the window closes each, whatever it sent last."""
    old, body = stage.daemon.workers(), b"." * 1000
    with ExitStack() as stack:
        silent, asked, read, unread = (stack.enter_context(stage.peer_of(old[0])) for _ in range(4))
        asked.ask(id="asked")
        for peer, query in ((read, {"id": "read"}), (unread, {"id": "unread", "unread": 1})):
            peer.send(post("/work", body, sleep=1, **query)[: -len(body)])
            stage.begun(str(query["id"]))
            peer.send(body)
            assert peer.receive().status == 200
        stage.daemon.send(signal.SIGHUP)
        assert silent.is_closed()
        start = time.monotonic()
        assert all(peer.is_closed() for peer in (asked, read, unread))
        assert time.monotonic() - start < GRACE / 2, "an idle connection held the drain up"
    stage.gone(old)


def shrink_under_long_requests(stage: Stage) -> None:
    """Take a worker away while each serves a request longer than the heartbeat's timeout."""
    old = stage.daemon.workers()
    with ExitStack() as stack:
        peers = [stack.enter_context(stage.peer_of(pid)) for pid in old]
        for pid, peer in zip(old, peers, strict=True):
            peer.send(get("/work", id=f"long-{pid}", sleep=10))
            stage.begun(f"long-{pid}")
        stage.daemon.send(signal.SIGTTOU)
        answers = [peer.receive() for peer in peers]
    assert [(one.status, one.worker) for one in answers] == [(200, pid) for pid in old]
    assert sorted(one.closes for one in answers) == [False, True]
    stage.shrunk(WORKERS - 1)
    assert "is blocked" not in stage.daemon.output
