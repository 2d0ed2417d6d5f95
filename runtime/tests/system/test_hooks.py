"""Hooks of gunicorn.conf.py: whatever one raises, and wherever, the service goes on."""

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from testkit.processes import Daemon
from testkit.waiting import until

Run = Callable[..., Daemon]

TELLING = (
    *("on_starting", "when_ready", "on_reload", "nworkers_changed", "child_exit", "worker_exit"),
    *("pre_exec", "on_exit"),
)
ARGUMENTS = {"nworkers_changed": "a, b, c"} | dict.fromkeys(
    ("pre_fork", "post_fork", "child_exit", "worker_exit"), "a, b"
)
PREPARING = ("pre_fork", "post_fork", "post_worker_init")


@pytest.fixture
def etc(project: Path) -> Path:
    folder = project / "etc" / "hello"
    folder.mkdir(parents=True)
    return folder


def hook(name: str, statement: str) -> str:
    return f"def {name}({ARGUMENTS.get(name, 'a')}):\n    {statement}\n"


@pytest.mark.parametrize("raised", ["OSError('full')", "SystemExit(9)", "KeyboardInterrupt"])
def test_a_hook_that_only_tells_may_raise_anything(run: Run, etc: Path, raised: str) -> None:
    ending = () if "OSError" in raised else ("on_starting", "when_ready")  # the next test
    names = [name for name in TELLING if name not in ending]
    (etc / "gunicorn.conf.py").write_text("".join(hook(name, f"raise {raised}") for name in names))
    daemon = run("hello:Container").ready()
    for number in (signal.SIGHUP, signal.SIGTTIN, signal.SIGUSR2):
        mark = daemon.mark()
        daemon.send(number)
        if number == signal.SIGUSR2:
            daemon.wait_for("USR2 failed: the hook pre_exec", after=mark)
            daemon.wait_for("The new master .* is gone; this one goes on", after=mark)
        else:
            daemon.ready(after=mark)
        assert daemon.get()[0] == 200
    assert daemon.stop() == 0
    kind = re.escape(re.split(r"\W", raised)[0])
    for name in names:
        place = r"\(etc/hello/gunicorn\.conf\.py:\d+\)"
        daemon.wait_for(rf"\[ERROR\] .*the hook {name} {place} failed: {kind}")


def test_a_hook_of_the_start_may_end_it(run: Run, etc: Path, project: Path) -> None:
    (etc / "gunicorn.conf.py").write_text(hook("when_ready", "raise SystemExit('not today')"))
    daemon = run("hello:Container", "--pid", "hello.pid")
    assert daemon.wait() == 1
    assert "api_hour: error: the hook when_ready" in daemon.output
    assert "SystemExit: not today" in daemon.output
    assert not (project / "hello.pid").exists()


@pytest.mark.parametrize("name", PREPARING)
def test_a_hook_that_fails_at_the_start_ends_it_with_the_reason(
    run: Run, etc: Path, name: str
) -> None:
    (etc / "gunicorn.conf.py").write_text(hook(name, "open('/nosuch')"))
    daemon = run("hello:Container")
    assert daemon.wait() == 1
    reason = rf"the hook {name} \(etc/hello/gunicorn.conf.py:2\) failed: FileNotFoundError"
    assert len(re.findall(rf"\[CRITICAL\] .*{reason}", daemon.output)) == 1


def test_a_hook_that_fails_at_a_reload_or_a_respawn_stops_nothing_else(
    project: Path, etc: Path
) -> None:
    socket, pidfile = project / "hello.sock", project / "hello.pid"
    arguments = ("--workers", "2", "--pid", str(pidfile), "--metrics")
    listen = ("--listen", f"http=unix:{socket}")
    run = project / "run"
    run.mkdir()
    with Daemon(
        project, "hello:Container", *arguments, *listen, variables={"RUNTIME_DIRECTORY": str(run)}
    ) as daemon:
        daemon.ready(2)
        old = daemon.workers()

        def is_whole() -> bool:
            return socket.is_socket() and pidfile.exists() and len(list(run.iterdir())) == 1

        for name in PREPARING:
            for raised in ("open('/nosuch')", "raise SystemExit(0)", "raise KeyboardInterrupt"):
                (etc / "gunicorn.conf.py").write_text(hook(name, raised))
                mark = daemon.mark()
                daemon.send(signal.SIGHUP)
                daemon.wait_for(f"Reload failed, the running .* the hook {name}", after=mark)
                assert is_whole()
                assert daemon.workers() == old
        # Now hooks that work, and then do not: at a respawn.
        switch = project / "switch"
        for name in PREPARING:
            switch.touch()
            (etc / "gunicorn.conf.py").write_text(hook(name, f"open({str(switch)!r})"))
            mark = daemon.mark()
            daemon.send(signal.SIGHUP)
            daemon.wait_for("Reloaded: 2 new workers", after=mark)
            until(lambda: len(daemon.workers()) == 2, "the old workers stayed")
            switch.unlink()
            mark = daemon.mark()
            survivor, victim = daemon.workers()
            os.kill(victim, signal.SIGKILL)
            daemon.wait_for(rf"the hook {name} .*; next in", count=2, after=mark)
            assert is_whole()
            assert survivor in daemon.workers()
            switch.touch()
            daemon.ready(after=mark)
        assert daemon.stop() == 0
        assert not socket.exists()
        assert not pidfile.exists()


HANGING = """\
import os, time
from api_hour.master import arbiter, long_calls
arbiter.SAME_STOP, long_calls.NOTICE = 0.0, 0.5
def hang():
    while os.path.exists("hang"):
        try:
            time.sleep(0.05)
        except Exception:
            pass
hang()
def child_exit(master, worker):
    hang()
def on_exit(master):
    hang()
"""


def test_what_hangs_in_the_master_is_told_and_ends_by_term(
    run: Run, etc: Path, project: Path
) -> None:
    (etc / "gunicorn.conf.py").write_text(HANGING)
    daemon = run("hello:Container").ready()
    (project / "hang").touch()
    daemon.send(signal.SIGHUP)
    daemon.wait_for("Handling signal: hup")
    place = r"has not returned for 0.5 s, at etc/hello/gunicorn\.conf\.py:7, .* TERM or INT ends it"
    daemon.send(signal.SIGTERM)  # ends the reading as soon as that takes long, then the daemon
    daemon.wait_for(f"Reading the configuration {place}")
    daemon.wait_for(f"The hook child_exit {place}")
    daemon.send(signal.SIGTERM)  # nobody waits for anything any more
    assert daemon.wait() == 0
    daemon.wait_for("Reload failed, the running workers stay: Reading the configuration took too")
    for name in ("child_exit", "on_exit"):
        daemon.wait_for(rf"the hook {name} .*py:7\) failed: Interrupted: The hook {name} took too")
