"""Reloads that cannot succeed: the old workers serve on, one error says why, and a mend helps."""

import os
import re
import signal
import time
from pathlib import Path

from runtime.tests.chaos.stage import GRACE, STARTING, Stage
from testkit.http import get
from testkit.ledger import NEVER_READY, SYNTAX_ERROR


def refuse(stage: Stage, error: str) -> None:
    """Send HUP to what is broken: one error that matches ``error``, and the same workers."""
    mark, old = stage.daemon.mark(), stage.daemon.workers()
    stage.daemon.send(signal.SIGHUP)
    stage.daemon.wait_for("Reload failed", after=mark)
    stage.calm()
    errors = stage.errors(mark)
    assert len(errors) == 1, f"not one error: {errors}"
    assert re.search(error, errors[0]), f"no {error!r} in {errors[0]}"
    assert stage.daemon.workers() == old, "other workers run after a reload that failed"


def code(stage: Stage, text: str, error: str) -> None:
    """Break the code in place, reload, mend it, reload."""
    stage.project.append(text)
    refuse(stage, error)
    stage.project.mend()
    stage.reload()
    stage.calm()


def configuration(stage: Stage, name: str, text: str, good: str, error: str) -> None:
    """Break a file of the configuration, reload, mend it, reload."""
    stage.project.configure(name, text)
    refuse(stage, error)
    stage.project.configure(name, good)
    stage.reload()
    stage.calm()


def upgrade(stage: Stage) -> None:
    """Send USR2 to start a release that cannot boot: the old master serves on."""
    mark, old = stage.daemon.mark(), stage.daemon.workers()
    stage.project.append(SYNTAX_ERROR)
    stage.daemon.send(signal.SIGUSR2)
    second = int(stage.daemon.wait_for(STARTING, after=mark)[1])
    stage.gone([second])
    stage.calm()
    errors = stage.errors(mark)
    assert len(errors) == 1, f"not one error: {errors}"
    assert re.search(r"hello\.py:\d+: SyntaxError", errors[0])
    assert stage.daemon.workers() == old
    stage.project.mend()
    stage.reload()


def stop_hanging(stage: Stage) -> None:
    """Send TERM while a reload hangs: what boots goes at once, what serves drains."""
    old, mark = stage.daemon.workers(), stage.daemon.mark()
    stage.project.append(NEVER_READY)
    with stage.peer_of(old[0]) as peer, stage.peer_of(old[0]) as idle:
        stage.daemon.send(signal.SIGHUP)
        booting = int(stage.daemon.wait_for(r"Booting worker with pid: (\d+)", after=mark)[1])
        peer.send(get("/work", id="busy", gate=1))
        stage.begun("busy")
        start = time.monotonic()
        stage.daemon.send(signal.SIGTERM)
        stage.gone([booting])
        assert time.monotonic() - start < GRACE / 2, "the booting worker stayed"
        assert idle.is_closed()  # the drain is under way
        stage.project.open_gate()
        stage.last_word(peer.receive(), old)
    assert stage.daemon.wait() == 0
    assert "out of memory" not in stage.daemon.output, "the log blames the memory for our own kill"


def lose_one_after(stage: Stage) -> None:
    """Break the code in place, reload, then kill an old worker: the others carry the service."""
    stage.project.append(SYNTAX_ERROR)
    refuse(stage, r"hello\.py:\d+: SyntaxError")
    lost, *others = stage.daemon.workers()
    mark = stage.daemon.mark()
    os.kill(lost, signal.SIGKILL)
    stage.daemon.wait_for(r"died: hello\.py:\d+: SyntaxError", after=mark)
    stage.calm()
    assert set(others) <= set(stage.daemon.workers()), "a good worker was taken away"
    stage.project.mend()
    stage.reload()
    stage.calm()


def prepare_releases(stage: Stage) -> None:
    """Let the daemon start from ``current``, a link to the folder of release 1."""
    current, first = stage.folder / "current", stage.folder / "release-1"
    stage.project.folder.rename(first)
    stage.project.folder.mkdir()
    _point(current, first)
    stage.options += ("--chdir", str(current))


def keep_release(stage: Stage) -> None:
    """Point ``current`` at a broken release, reload, kill a worker: the old release comes again."""
    current = stage.folder / "current"
    stage.project.mend("2")
    stage.project.append(SYNTAX_ERROR)
    _point(current, stage.project.folder)
    refuse(stage, "SyntaxError")
    mark = stage.daemon.mark()
    os.kill(stage.daemon.workers()[0], signal.SIGKILL)
    stage.daemon.ready(after=mark)
    _all_serve(stage, "1")
    stage.project.mend("2")
    stage.reload()
    _all_serve(stage, "2")
    stage.calm()


def _point(link: Path, target: Path) -> None:
    """Make ``link`` point at ``target`` in one step."""
    fresh = link.with_name("next")
    fresh.symlink_to(target)
    fresh.rename(link)


def _all_serve(stage: Stage, release: str) -> None:
    for pid in stage.daemon.workers():
        with stage.peer_of(pid) as peer:
            assert peer.ask(id="which").headers["x-release"] == release
