"""Reloads that fail: the old workers keep serving, one error says why, a fixed reload succeeds."""

import os
import re
import signal
import time

from runtime.tests.chaos.harness import GRACE, STARTING, Harness
from testkit.http import get
from testkit.ledger import NEVER_READY, SYNTAX_ERROR


def refuse(harness: Harness, error: str) -> None:
    """Send HUP to a broken project: one error matches ``error``, and the workers stay."""
    mark, old = harness.daemon.mark(), harness.daemon.workers()
    harness.daemon.send(signal.SIGHUP)
    harness.daemon.wait_for("Reload failed", after=mark)
    harness.calm()
    errors = harness.errors(mark)
    assert len(errors) == 1, f"expected one error: {errors}"
    assert re.search(error, errors[0]), f"no {error!r} in {errors[0]}"
    assert harness.daemon.workers() == old, "the workers changed although the reload failed"


def code(harness: Harness, text: str, error: str) -> None:
    """Break the code, reload, mend it, reload."""
    harness.project.append(text)
    refuse(harness, error)
    harness.project.mend()
    harness.reload()
    harness.calm()


def configuration(harness: Harness, name: str, text: str, good: str, error: str) -> None:
    """Break a configuration file, reload, mend it, reload."""
    harness.project.configure(name, text)
    refuse(harness, error)
    harness.project.configure(name, good)
    harness.reload()
    harness.calm()


def hook(harness: Harness, text: str, error: str) -> None:
    """Break a hook, reload: the child that failed takes nothing of the daemon with it."""
    path = harness.folder / "daemon.pid"
    assert int(path.read_text()) == harness.daemon.pid
    configuration(harness, "gunicorn.conf.py", text, "", error)
    assert int(path.read_text()) == harness.daemon.pid, "the pid file was taken along"


def prepare_pid_file(harness: Harness) -> None:
    """Let the daemon write a pid file."""
    harness.options += ("--pid", str(harness.folder / "daemon.pid"))


def upgrade(harness: Harness) -> None:
    """Send USR2 to start a release that cannot boot: the old master keeps serving."""
    mark, old = harness.daemon.mark(), harness.daemon.workers()
    harness.project.append(SYNTAX_ERROR)
    harness.daemon.send(signal.SIGUSR2)
    second = int(harness.daemon.wait_for(STARTING, after=mark)[1])
    harness.wait_gone([second])
    harness.calm()
    errors = harness.errors(mark)
    assert len(errors) == 1, f"expected one error: {errors}"
    assert re.search(r"hello\.py:\d+: SyntaxError", errors[0])
    assert harness.daemon.workers() == old
    harness.project.mend()
    harness.reload()


def stop_hanging(harness: Harness) -> None:
    """Send TERM while a reload hangs: the booting worker exits at once, the others drain."""
    old, mark = harness.daemon.workers(), harness.daemon.mark()
    harness.project.append(NEVER_READY)
    with harness.connect_to(old[0]) as peer, harness.connect_to(old[0]) as idle:
        harness.daemon.send(signal.SIGHUP)
        booting = int(harness.daemon.wait_for(r"Booting worker with pid: (\d+)", after=mark)[1])
        peer.send(get("/work", id="busy", gate=1))
        harness.wait_begun("busy")
        start = time.monotonic()
        harness.daemon.send(signal.SIGTERM)
        harness.wait_gone([booting])
        assert time.monotonic() - start < GRACE / 2, "the booting worker did not exit"
        assert idle.is_closed()  # the worker drains
        harness.project.open_gate()
        harness.assert_last(peer.receive(), old)
    assert harness.daemon.wait() == 0
    assert "out of memory" not in harness.daemon.output, (
        "the log blames the memory for our own kill"
    )


def kill_worker_after_failure(harness: Harness) -> None:
    """Break the code, reload, then kill an old worker: the others keep serving."""
    harness.project.append(SYNTAX_ERROR)
    refuse(harness, r"hello\.py:\d+: SyntaxError")
    lost, *others = harness.daemon.workers()
    mark = harness.daemon.mark()
    os.kill(lost, signal.SIGKILL)
    harness.daemon.wait_for(r"died: hello\.py:\d+: SyntaxError", after=mark)
    harness.calm()
    assert set(others) <= set(harness.daemon.workers()), "a good worker was stopped"
    harness.project.mend()
    harness.reload()
    harness.calm()
