"""Starts in a bad moment: a hook that raises, a pid file that a crash or a restore left behind."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from runtime.tests.chaos.harness import WORKERS, Harness
from testkit.load import Profile
from testkit.processes import stranger

POST_FORK = 'def post_fork(server, worker):\n    open("/no/such/file")\n'
PRE_FORK = POST_FORK.replace("post", "pre")
FAILS_ONCE = """
from pathlib import Path

def pre_fork(server, worker):
    mark = Path({mark!r})
    if mark.exists():
        mark.unlink()
        raise OSError("no room for a worker")
"""


def fail(harness: Harness, text: str) -> None:
    """Start with a hook that raises: exit code 1 and one error that names hook and cause."""
    harness.project.configure("gunicorn.conf.py", text)
    daemon = harness.start_daemon()
    assert daemon.wait() == 1
    errors = harness.errors(0)
    assert len(errors) == 1, f"expected one error: {errors}"
    assert re.search(r"gunicorn\.conf\.py:2.*FileNotFoundError", errors[0])


def prepare_mark(harness: Harness) -> None:
    """Let pre_fork raise once, as soon as the file ``mark`` is there."""
    text = FAILS_ONCE.format(mark=str(harness.folder / "mark"))
    harness.project.configure("gunicorn.conf.py", text)


def fail_once(harness: Harness) -> None:
    """Kill a worker when the next pre_fork raises: the master tries again."""
    (harness.folder / "mark").touch()
    mark = harness.daemon.mark()
    os.kill(harness.daemon.workers()[0], signal.SIGKILL)
    harness.daemon.ready(after=mark)
    assert not (harness.folder / "mark").exists(), "the hook was not called"
    harness.calm()


def stale_pid_file(harness: Harness) -> None:
    """Start over a pid file that names a living stranger, reload by it, stop: no signal for him."""
    path = harness.folder / "daemon.pid"
    harness.options = ("--pid", str(path))
    with stranger(path) as other:
        assert _reload_by(path) == 1, "a stranger's pid file counts as a daemon"
        daemon = harness.start_daemon().ready(WORKERS)
        assert int(path.read_text()) == daemon.pid
        harness.start_load(Profile())
        harness.calm()
        old = daemon.workers()
        assert _reload_by(path) == 0
        harness.wait_gone(old)
        harness.calm()
        harness.stop_loads()
        assert daemon.stop() == 0
        assert not path.exists(), "the pid file was left behind"
        assert not other.has_ended, "a signal was sent to a stranger"


def _reload_by(path: Path) -> int:
    """Return the exit code of the command that reloads the daemon of a pid file."""
    command = [sys.executable, "-m", "api_hour", "reload", str(path)]
    return subprocess.run(command, check=False, capture_output=True, timeout=60).returncode
