"""systemd's protocol: what the daemon says and when, and sockets that somebody else holds."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from api_hour.master import systemd
from testkit.processes import Daemon
from testkit.waiting import PATIENCE, until

Run = Callable[..., Daemon]


class Manager:
    """Receive what a service tells systemd."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(self.path)
        self.sock.setblocking(False)
        self.heard: list[str] = []

    def hears(self, pattern: str, *, after: int = 0) -> str:
        """Wait for a line that matches; return it."""

        def match() -> str | None:
            while True:
                try:
                    self.heard += self.sock.recv(4096).decode().splitlines()
                except BlockingIOError:
                    break
            return next((line for line in self.heard[after:] if re.fullmatch(pattern, line)), None)

        return until(match, f"systemd did not hear {pattern}: {self.heard}") or ""


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    one = Manager(tmp_path / "notify")
    yield one
    one.sock.close()


def test_ready_comes_with_the_first_worker_and_stopping_before_the_end(
    run: Run, manager: Manager
) -> None:
    daemon = run(NOTIFY_SOCKET=manager.path).ready()
    manager.hears("READY=1")
    manager.hears(f"MAINPID={daemon.process.pid}")
    manager.hears("STATUS=1 of 1 workers ready")
    assert daemon.stop() == 0
    manager.hears("STOPPING=1")


def test_a_service_that_cannot_start_is_never_ready(project: Path, manager: Manager) -> None:
    (project / "hello.py").write_text("1 / 0\n")
    listen = ("--listen", "http=tcp://127.0.0.1:0")
    with Daemon(project, "hello:Container", *listen, NOTIFY_SOCKET=manager.path) as daemon:
        assert daemon.ended() == 1
    manager.hears("STOPPING=1")
    assert "READY=1" not in manager.heard


def test_a_reload_is_told_from_its_beginning_to_its_end(
    run: Run, project: Path, manager: Manager
) -> None:
    daemon = run(NOTIFY_SOCKET=manager.path).ready()
    manager.hears("STATUS=1 of 1 workers ready")
    mark = len(manager.heard)
    daemon.send(signal.SIGHUP)
    manager.hears("RELOADING=1", after=mark)
    assert int(manager.hears(r"MONOTONIC_USEC=\d+", after=mark).partition("=")[2]) > 0
    manager.hears("READY=1", after=mark)
    mark = len(manager.heard)
    (project / "hello.py").write_text("1 / 0\n")
    daemon.send(signal.SIGHUP)
    manager.hears("READY=1", after=mark)
    manager.hears("STATUS=.*the last reload failed, recycling is suspended", after=mark)


def test_the_watchdog_is_fed_while_a_worker_is_well(run: Run, manager: Manager) -> None:
    run(NOTIFY_SOCKET=manager.path, WATCHDOG_USEC="200000").ready()
    for _ in range(3):
        mark = len(manager.heard)
        manager.hears("WATCHDOG=1", after=mark)


HOLDER = """\
import os, subprocess, sys
names, *command = sys.argv[1:]
count = len(names.split(":"))
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(count), "LISTEN_FDNAMES": names}
os.execv(command[0], command)
"""


def held(project: Path, names: str, *sockets: socket.socket) -> "subprocess.Popen[bytes]":
    """Start the daemon as systemd would, with ``sockets`` as descriptors 3 and up."""

    def pass_on() -> None:
        copies = [os.dup(one.fileno()) for one in sockets]
        for place, copy in enumerate(copies):
            os.dup2(copy, 3 + place)

    command = [sys.executable, "-c", HOLDER, names, sys.executable, "-m", "api_hour"]
    return subprocess.Popen(
        [*command, "hello:Container"],
        cwd=project,
        preexec_fn=pass_on,
        pass_fds=range(3, 3 + len(sockets)),
        stderr=subprocess.PIPE,
    )


def test_a_socket_that_systemd_holds_is_served_and_outlives_the_daemon(project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        for name in ("http", "hello.socket"):
            process = held(project, name, holder)
            with socket.create_connection(holder.getsockname(), PATIENCE) as client:
                client.sendall(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
                assert client.makefile("rb").readline() == b"HTTP/1.1 200 OK\r\n"
            process.terminate()
            assert process.wait(PATIENCE) == 0
            assert process.stderr is not None
            process.stderr.close()


def test_a_socket_without_a_listener_is_named_with_the_cure(project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("", 0)) as two:
        process = held(project, "http:strange", one, two)
        _, log = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert (
        "inherited socket 'strange' is not a listener (known: http): set FileDescriptorName="
        in (log.decode())
    )


def test_another_process_environment_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", "1")
    monkeypatch.setenv("LISTEN_FDS", "1")
    assert systemd.activated() == []
    assert "LISTEN_FDS" not in os.environ


def test_names_that_are_missing_are_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "3")
    monkeypatch.setenv("LISTEN_FDNAMES", "http:admin")
    assert systemd.activated() == [("http", 3), ("admin", 4), ("unknown", 5)]
