"""What only observes loses its place: the folder of the metrics, the folder of the log."""

import os
import shutil
import signal

from runtime.tests.chaos.harness import WORKERS, Harness
from testkit.waiting import until


def prepare_metrics(harness: Harness) -> None:
    """Let the daemon keep its metrics in a folder below ``run``."""
    run = harness.folder / "run"
    run.mkdir()
    harness.variables["RUNTIME_DIRECTORY"] = str(run)


def remove_metrics(harness: Harness) -> None:
    """Remove the folder of the metrics, reload, kill a worker: all start, and count again."""
    until(lambda: _counts_requests(harness), "the requests are not counted")
    for folder in (harness.folder / "run").iterdir():
        shutil.rmtree(folder)
    harness.calm()
    harness.reload()
    mark = harness.daemon.mark()
    os.kill(harness.daemon.workers()[0], signal.SIGKILL)
    harness.daemon.ready(after=mark)
    harness.calm()
    until(lambda: _counts_requests(harness), "the requests are no longer counted")


def _counts_requests(harness: Harness) -> bool:
    with harness.connect() as peer:
        answer = peer.ask("/metrics")
    return b'route="/work"' in answer.body


def prepare_logs(harness: Harness) -> None:
    """Let the daemon write its access log in a folder of its own."""
    folder = harness.folder / "logs"
    folder.mkdir()
    harness.options += ("--access-logfile", str(folder / "access.log"))


def remove_logs(harness: Harness) -> None:
    """Remove the log's folder and send USR1, then a reload: the log is back with its folder."""
    log, workers = harness.folder / "logs" / "access.log", harness.daemon.workers()
    assert log.stat().st_size
    shutil.rmtree(log.parent)
    harness.daemon.send(signal.SIGUSR1)
    harness.daemon.wait_for("Handling signal: usr1")
    harness.calm()
    assert harness.daemon.workers() == workers, "a worker died with its log"
    harness.reload()
    harness.calm()
    log.parent.mkdir()
    harness.daemon.send(signal.SIGUSR1)
    until(lambda: log.exists() and log.stat().st_size, "nothing is logged any more")
    assert len(harness.daemon.workers()) == WORKERS
