"""Planned events: reload, scale, upgrade, recycle, restart. None may cost a request."""

import os
import re
import signal
import time
from contextlib import ExitStack, suppress

from runtime.tests.chaos.account import percentile
from runtime.tests.chaos.harness import GRACE, STARTING, WORKERS, Harness
from testkit.http import get, post
from testkit.ledger import SLOW_IMPORT
from testkit.processes import tcp_sockets
from testkit.waiting import TIMEOUT, until

DRAINING = 2 * WORKERS  # most workers that drain at a time, by default
GAP = 0.5  # seconds between two requests of a client, much less than the window


def reload_thrice(harness: Harness) -> None:
    """Send HUP three times, each after the previous reload is complete."""
    for _ in range(3):
        harness.reload()
        harness.calm()


def overlap(harness: Harness) -> None:
    """Send signals in quick succession, so that planned events overlap."""
    steps = ["HUP", "TTIN", "HUP", "TTIN", "TERM", "HUP", "TTOU", "HUP", "TERM", "TTOU"]
    for name in steps:
        mark = harness.daemon.mark()
        if name == "TERM":
            for pid in harness.ready_workers():
                with suppress(ProcessLookupError):  # it has drained and exited by now
                    os.kill(pid, signal.SIGTERM)
        else:
            harness.daemon.send(signal.Signals[f"SIG{name}"])
            harness.daemon.wait_for(f"Handling signal: {name.lower()}", after=mark)
    harness.reload()
    harness.wait_workers(WORKERS)
    harness.calm()


def reload_under_streams(harness: Harness) -> None:
    """Reload five times while streams are open: draining workers do not pile up."""
    mark = 0
    with ExitStack() as stack:
        for _ in range(5):
            newest = [pid for pid in harness.ready_workers() if pid in _booted(harness, mark)]
            peers = [stack.enter_context(harness.connect_to(pid)) for pid in newest]
            for peer in peers:
                peer.send(get("/stream"))
                assert peer.has_data()
            mark = harness.daemon.mark()
            harness.daemon.send(signal.SIGHUP)
            harness.daemon.ready(WORKERS, after=mark)
        until(
            lambda: len(harness.daemon.workers()) <= WORKERS + DRAINING,
            f"more than {DRAINING} workers drain",
        )
        harness.note(f"{len(harness.daemon.workers())} workers after five reloads")
        harness.calm()
        harness.project.open_gate()
        for peer in peers:  # of the youngest draining workers
            assert peer.receive().status == 200
    harness.wait_workers(WORKERS)


def _booted(harness: Harness, mark: int) -> list[int]:
    lines = "\n".join(harness.daemon.lines[mark:])
    return [int(pid) for pid in re.findall(r"Booting worker with pid: (\d+)", lines)]


def reload_slow_import(harness: Harness) -> None:
    """Reload code that takes three seconds to import: no request waits for it."""
    harness.project.append(SLOW_IMPORT)
    start = time.monotonic()
    harness.reload()
    assert harness.fewest_workers() >= WORKERS, "an old worker exited before the new one was ready"
    during = [record for record in harness.loads[0].records if record.began > start]
    harness.note(f"p99 during the import {percentile(during, 0.99) * 1000:.0f} ms")
    # The clients send at an even pace, so the percentile would show a wait.
    assert percentile(during, 0.9) < 1.0, "requests waited while new code was imported"


def scale(harness: Harness) -> None:
    """Add two workers one by one, then remove them."""
    for count in (WORKERS + 1, WORKERS + 2):
        mark = harness.daemon.mark()
        harness.daemon.send(signal.SIGTTIN)
        harness.daemon.ready(after=mark)
        assert len(harness.daemon.workers()) == count
        harness.calm()
    for count in (WORKERS + 1, WORKERS):
        harness.daemon.send(signal.SIGTTOU)
        harness.wait_workers(count)
        harness.calm()


def upgrade(harness: Harness) -> None:
    """Start a new master with USR2, then stop the old one."""
    old, master = harness.daemon.workers(), _second_master(harness)
    harness.calm()
    harness.successor = master
    harness.daemon.send(signal.SIGTERM)
    assert harness.daemon.process.wait(TIMEOUT) == 0
    harness.wait_gone(old)
    harness.calm()


def roll_back(harness: Harness) -> None:
    """Start a new master with USR2, then stop it: the old one keeps serving."""
    old, master = harness.daemon.workers(), _second_master(harness)
    harness.calm()
    os.kill(master, signal.SIGTERM)
    harness.wait_gone([master])
    until(lambda: harness.daemon.workers() == old, "workers of the new master are left")
    harness.calm()
    harness.reload()


def _second_master(harness: Harness) -> int:
    mark = harness.daemon.mark()
    harness.daemon.send(signal.SIGUSR2)
    found = harness.daemon.wait_for(STARTING, after=mark)
    harness.daemon.ready(WORKERS, after=mark)
    return int(found[1])


def recycle(harness: Harness) -> None:
    """Wait until the workers, and a successor, reach their limit: the next one is ready first."""
    harness.daemon.ready(2 * WORKERS + 1)
    harness.daemon.wait_for("left: exit code 0", count=WORKERS)
    assert harness.fewest_workers() >= WORKERS, "a worker exited before its successor was ready"
    harness.calm()


def recycle_memory(harness: Harness) -> None:
    """Make each worker exceed its memory limit: both are replaced, one after the other."""
    old = harness.daemon.workers()
    for pid in old:
        with harness.connect_to(pid) as peer:
            assert peer.ask("/grow", size=300_000_000).status == 200
    harness.wait_gone(old)
    assert harness.fewest_workers() >= WORKERS, "a worker exited before its successor was ready"
    harness.calm()


def restart_held(harness: Harness) -> None:
    """Stop the daemon and start it again on a socket that the supervisor keeps."""
    for _ in range(2):
        assert harness.daemon.stop() == 0
        harness.start_daemon().ready(WORKERS)
        harness.calm()


def retire_one(harness: Harness) -> None:
    """Send TERM to a worker that has connections in every state."""
    chosen = harness.daemon.workers()[0]
    with ExitStack() as stack:
        fresh, idle, busy, half = (
            stack.enter_context(harness.connect_to(chosen)) for _ in range(4)
        )
        idle.ask(id="idle-1")
        busy.send(get("/work", id="busy", gate=1))
        request = get("/work", id="half")
        half.send(request[:20])
        harness.wait_begun("busy")
        mark = harness.daemon.mark()
        os.kill(chosen, signal.SIGTERM)
        harness.daemon.ready(after=mark)
        # The worker drains from the moment at which its replacement is ready.
        until(lambda: not tcp_sockets(chosen, state="0A"), "the worker goes on accepting")
        half.send(request[20:])
        harness.project.open_gate()
        answers = {
            "fresh": fresh.ask(id="fresh"),
            "idle": idle.ask(id="idle-2"),
            "half sent": half.receive(),
            "in flight": busy.receive(),
        }
        for name, answer in answers.items():
            harness.assert_last(answer, [chosen], name)
        assert all(peer.is_closed() for peer in (fresh, idle, half, busy))
    harness.wait_gone([chosen])
    assert len(harness.daemon.workers()) == WORKERS


def outlast_window(harness: Harness) -> None:
    """Make a response, and the first part of a request, outlast the window; then send another."""
    old, request = harness.daemon.workers(), get("/work", id="half")
    with ExitStack() as stack:
        streams, halves, idle = (
            [stack.enter_context(harness.connect_to(pid)) for pid in old] for _ in range(3)
        )
        for stream, half in zip(streams, halves, strict=True):
            stream.send(get("/stream"))
            half.send(request[:20])
        assert all(peer.has_data() for peer in streams)
        harness.daemon.send(signal.SIGHUP)
        assert all(peer.is_closed() for peer in idle)  # the window is over
        harness.project.open_gate()
        answers = [peer.receive() for peer in streams]
        assert [answer.closes for answer in answers] == [False] * WORKERS
        time.sleep(GAP)
        for peer in streams:
            harness.assert_last(peer.ask(id="after"), old, "after a long response")
        for peer in halves:
            peer.send(request[20:])
            harness.assert_last(peer.receive(), old, "sent in two parts")
    harness.wait_gone(old)


def close_idle(harness: Harness) -> None:
    """Reload while connections are idle: the end of the window closes each, whatever it sent."""
    old, body = harness.daemon.workers(), b"." * 1000
    with ExitStack() as stack:
        silent, asked, read, unread = (
            stack.enter_context(harness.connect_to(old[0])) for _ in range(4)
        )
        asked.ask(id="asked")
        for peer, query in ((read, {"id": "read"}), (unread, {"id": "unread", "unread": 1})):
            peer.send(post("/work", body, sleep=1, **query)[: -len(body)])
            harness.wait_begun(str(query["id"]))
            peer.send(body)
            assert peer.receive().status == 200
        harness.daemon.send(signal.SIGHUP)
        assert silent.is_closed()
        start = time.monotonic()
        assert all(peer.is_closed() for peer in (asked, read, unread))
        assert time.monotonic() - start < GRACE / 2, "an idle connection delayed the drain"
    harness.wait_gone(old)


def shrink_under_long_requests(harness: Harness) -> None:
    """Remove a worker while each serves a request longer than the heartbeat's timeout."""
    old = harness.daemon.workers()
    with ExitStack() as stack:
        peers = [stack.enter_context(harness.connect_to(pid)) for pid in old]
        for pid, peer in zip(old, peers, strict=True):
            peer.send(get("/work", id=f"long-{pid}", sleep=10))
            harness.wait_begun(f"long-{pid}")
        harness.daemon.send(signal.SIGTTOU)
        answers = [peer.receive() for peer in peers]
    assert [(answer.status, answer.worker) for answer in answers] == [(200, pid) for pid in old]
    assert sorted(answer.closes for answer in answers) == [False, True]
    harness.wait_workers(WORKERS - 1)
    assert "is blocked" not in harness.daemon.output
