"""Release folders behind the link ``current``: pointed at a broken one, or removed too early."""

import os
import shutil
import signal
from pathlib import Path

from runtime.tests.chaos.broken_reloads import refuse
from runtime.tests.chaos.harness import WORKERS, Harness
from testkit.ledger import SYNTAX_ERROR


def prepare(harness: Harness) -> None:
    """Make the daemon start from ``current``, a link to the folder of release 1."""
    first = _first(harness)
    harness.project.folder.rename(first)
    harness.project.folder.mkdir()
    _point(_current(harness), first)
    harness.options += ("--chdir", str(_current(harness)))


def keep(harness: Harness) -> None:
    """Point ``current`` at a broken release, reload, kill a worker: the old release replaces it."""
    harness.project.mend("2")
    harness.project.append(SYNTAX_ERROR)
    _point(_current(harness), harness.project.folder)
    refuse(harness, "SyntaxError")
    mark = harness.daemon.mark()
    os.kill(harness.daemon.workers()[0], signal.SIGKILL)
    harness.daemon.ready(after=mark)
    _all_serve(harness, "1")
    harness.project.mend("2")
    harness.reload()
    _all_serve(harness, "2")
    harness.calm()


def remove_then_reload(harness: Harness) -> None:
    """Point ``current`` at release 2 and remove release 1, then reload: release 2 serves."""
    _replace(harness)
    harness.calm()
    harness.reload()
    _all_serve(harness, "2")
    harness.calm()


def remove_then_kill(harness: Harness) -> None:
    """Point ``current`` at release 2, remove release 1, kill workers: each is replaced."""
    _replace(harness)
    for _ in range(WORKERS):
        mark = harness.daemon.mark()
        os.kill(harness.ready_workers()[-1], signal.SIGKILL)  # the youngest does not drain
        harness.daemon.ready(after=mark)
        harness.calm()
    harness.reload()
    _all_serve(harness, "2")
    harness.calm()


def _replace(harness: Harness) -> None:
    harness.project.mend("2")
    _point(_current(harness), harness.project.folder)
    shutil.rmtree(_first(harness))


def _current(harness: Harness) -> Path:
    return harness.folder / "current"


def _first(harness: Harness) -> Path:
    return harness.folder / "release-1"


def _point(link: Path, target: Path) -> None:
    """Make ``link`` point at ``target`` atomically."""
    fresh = link.with_name("next")
    fresh.symlink_to(target)
    fresh.rename(link)


def _all_serve(harness: Harness, release: str) -> None:
    for pid in harness.daemon.workers():
        with harness.connect_to(pid) as peer:
            assert peer.ask(id="which").headers["x-release"] == release
