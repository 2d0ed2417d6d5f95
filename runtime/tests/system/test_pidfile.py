"""The pid file: a lock decides who runs, and `api_hour reload` asks, waits and tells."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from testkit.processes import API_HOUR, Daemon, session
from testkit.waiting import TIMEOUT, until

Run = Callable[..., Daemon]


def ask(pidfile: Path, *arguments: str) -> tuple[int, str]:
    """Run ``api_hour reload``; return its exit code and what it printed."""
    command = [*API_HOUR, "reload", str(pidfile), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    assert not (done.stdout and done.stderr)
    return done.returncode, done.stdout or done.stderr


@pytest.fixture
def bystander() -> "Iterator[subprocess.Popen[bytes]]":
    """Return a living process that has nothing to do with us, and would die of HUP."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        assert process.poll() is None, "it was signalled"
        process.kill()


def test_a_stale_file_stops_no_start_and_its_process_is_left_alone(
    run: Run, project: Path, bystander: "subprocess.Popen[bytes]"
) -> None:
    pidfile = project / "hello.pid"
    pidfile.write_text(f"{bystander.pid}\n")
    assert ask(pidfile) == (
        1,
        f"api_hour reload: not running: no daemon holds {pidfile}, which is stale\n",
    )
    missing = project / "other.pid"
    assert ask(missing) == (1, f"api_hour reload: not running: {missing} does not exist\n")

    daemon = run("hello:Container", "--pid", str(pidfile)).ready()
    assert int(pidfile.read_text()) == daemon.pid
    second = run("hello:Container", "--pid", str(pidfile))
    assert second.wait() == 1
    assert f"the daemon runs already: its master (pid: {daemon.pid}) holds" in second.output
    assert daemon.get()[0] == 200

    daemon.process.kill()  # leaves the file and the socket behind
    daemon.wait()
    assert pidfile.exists()
    assert ask(pidfile)[0] == 1
    third = run("hello:Container", "--pid", str(pidfile)).ready()
    assert ask(pidfile)[0] == 0
    pidfile.unlink()
    pidfile.write_text("1\n")  # of somebody else
    assert third.stop() == 0
    assert pidfile.read_text() == "1\n"


def test_a_reload_is_awaited_and_its_failure_is_told(run: Run, project: Path) -> None:
    pidfile = project / ("long-" * 30) / "hello.pid"  # longer than a socket's path may be
    pidfile.parent.mkdir()
    daemon = run("hello:Container", "--workers", "2", "--pid", str(pidfile)).ready(2)
    old = set(daemon.workers())
    code, text = ask(pidfile)
    assert code == 0
    assert text.startswith("Reloaded: 2 new workers are ready after ")
    assert len(set(daemon.workers()) - old) == 2

    good = (project / "hello.py").read_text()
    (project / "hello.py").write_text("open('ready', 'x')\n" + good)  # for the first worker only
    code, text = ask(pidfile)
    assert code == 1
    assert text.startswith(
        "api_hour reload: not every new worker becomes ready, which goes on being tried: Worker"
    )
    assert "hello.py:1: FileExistsError" in text

    (project / "hello.py").write_text("import nothing_of_this_name\n")
    code, text = ask(pidfile)
    assert code == 1
    assert text.startswith("api_hour reload: hello.py:1: ModuleNotFoundError: No module named")
    assert text.count("\n") == 1

    (project / "hello.py").write_text("import time\ntime.sleep(600)\n" + good)
    code, text = ask(pidfile, "--timeout", "1")
    assert code == 1
    assert text == (
        "api_hour reload: the reload is not over after 1 s; the daemon's log says how far it is\n"
    )
    waiting = subprocess.Popen(
        [*API_HOUR, "reload", str(pidfile)], stderr=subprocess.PIPE, text=True
    )
    mark = daemon.mark()
    daemon.wait_for("asks for it", count=1, after=mark)
    with socket.create_connection(("127.0.0.1", daemon.port()), TIMEOUT) as client:
        client.sendall(b"GET /slow?seconds=600 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert daemon.get()[0] == 200  # so the other request has been accepted
        daemon.send(signal.SIGTERM)
        stopping = "api_hour reload: the daemon is stopping\n"
        assert waiting.communicate(timeout=TIMEOUT)[1] == stopping
        assert waiting.returncode == 1
        assert ask(pidfile) == (1, stopping)  # a new one hears it at once
        assert not daemon.has_ended
        assert daemon.stop(signal.SIGINT) == 0  # which waits for no request
    assert list(pidfile.parent.iterdir()) == []


def test_a_successor_takes_the_file_over(run: Run, project: Path) -> None:
    pidfile = project / "hello.pid"
    daemon = run("hello:Container", "--pid", str(pidfile)).ready()
    mark = daemon.mark()
    daemon.send(signal.SIGUSR2)
    daemon.ready(after=mark)
    second = project / "hello.pid.2"
    successor = int(second.read_text())
    assert int(pidfile.read_text()) == daemon.pid
    assert ask(second)[0] == 0
    assert ask(pidfile)[0] == 0
    daemon.send(signal.SIGTERM)
    until(lambda: not second.exists(), "the successor keeps the name .2")
    assert int(pidfile.read_text()) == successor
    assert ask(pidfile)[0] == 0
    os.kill(successor, signal.SIGTERM)
    daemon.wait()
    assert {path.name for path in project.iterdir() if "pid" in path.name} == set()


def test_a_process_that_a_hook_has_forked_holds_neither_file_nor_port(
    run: Run, project: Path
) -> None:
    etc = project / "etc" / "hello"
    etc.mkdir(parents=True)
    (etc / "gunicorn.conf.py").write_text(
        "import os, time\n\n\ndef when_ready(master):\n"
        "    if os.fork() == 0:\n        time.sleep(600)\n"
    )
    daemon = run("hello:Container", "--pid", "hello.pid").ready()
    daemon.process.kill()
    until(lambda: len(session(daemon.pid)) == 1, "the worker stayed")  # the hook's child is left
    socket.create_server(("127.0.0.1", daemon.port())).close()
    (etc / "gunicorn.conf.py").unlink()
    second = run("hello:Container", "--pid", "hello.pid").ready()
    assert ask(project / "hello.pid")[0] == 0
    assert second.stop() == 0
    os.kill(session(daemon.pid)[0], signal.SIGTERM)  # the child does not handle it as a master
    until(lambda: not session(daemon.pid), "the hook's child stayed")
