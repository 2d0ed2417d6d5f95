"""systemd's protocols: what the daemon reports and when, and sockets that systemd holds."""

import os
import re
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from testkit.processes import Daemon, session
from testkit.systemd import activated, descriptors
from testkit.waiting import TIMEOUT, until

Run = Callable[..., Daemon]


class Manager:
    """systemd's end: it receives what a service reports."""

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
    manager = Manager(tmp_path / "notify")
    yield manager
    manager.sock.close()


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
    with Daemon(
        project, "hello:Container", *listen, variables={"NOTIFY_SOCKET": manager.path}
    ) as daemon:
        assert daemon.wait() == 1
    manager.hears("STOPPING=1")
    assert "READY=1" not in manager.heard


def test_a_reload_is_reported_from_its_beginning_to_its_end(
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


def test_the_watchdog_is_fed_while_a_worker_is_healthy(run: Run, manager: Manager) -> None:
    run(NOTIFY_SOCKET=manager.path, WATCHDOG_USEC="200000").ready()
    for _ in range(3):
        mark = len(manager.heard)
        manager.hears("WATCHDOG=1", after=mark)


def test_the_successor_of_usr2_becomes_the_service_and_feeds_the_watchdog(
    project: Path, manager: Manager
) -> None:
    # Neither the master, its successor nor the reloader imports a module of the project.
    (project / "platform.py").write_text("raise RuntimeError('shadowed')\n")
    start = 'WATCHDOG_PID=$$ exec "$0" -P -m api_hour "$@"'  # as systemd sets it
    variables = {"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "200000"}
    arguments = ("hello:Container", "--reload", "--listen", "http=tcp://127.0.0.1:0")
    command = ("sh", "-c", start, sys.executable)
    with Daemon(project, *arguments, command=command, variables=variables) as daemon:
        manager.hears(f"MAINPID={daemon.pid}")
        manager.hears("WATCHDOG=1")
        daemon.send(signal.SIGUSR2)
        successor = int(manager.hears(rf"MAINPID=(?!{daemon.pid}$)\d+").partition("=")[2])
        mark = len(manager.heard)
        daemon.send(signal.SIGTERM)
        manager.hears(f"MAINPID={successor}", after=mark)
        daemon.wait_for("this one takes its place")
        assert "STOPPING=1" not in manager.heard
        mark = len(manager.heard)
        manager.hears("WATCHDOG=1", after=mark)
        os.kill(successor, signal.SIGTERM)
        manager.hears("STOPPING=1", after=mark)
        until(lambda: not session(daemon.pid), "the successor did not end")
        assert "shadowed" not in daemon.output


def started_by_systemd(project: Path, sockets: dict[str, socket.socket]) -> Daemon:
    passed = descriptors(sockets)
    return Daemon(project, "hello:Container", command=activated(sockets), pass_fds=passed)


def test_a_socket_that_systemd_holds_is_served_and_outlives_the_daemon(project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        for name in ("http", "hello.socket"):
            with started_by_systemd(project, {name: holder}) as daemon:
                with socket.create_connection(holder.getsockname(), TIMEOUT) as client:
                    client.sendall(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
                    assert client.makefile("rb").readline() == b"HTTP/1.1 200 OK\r\n"
                assert daemon.stop() == 0


def test_a_socket_without_a_listener_is_named_with_the_cure(project: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as known,
        socket.create_server(("", 0)) as strange,
        started_by_systemd(project, {"http": known, "strange": strange}) as daemon,
    ):
        assert daemon.wait() == 1
    message = "inherited socket 'strange' is not a listener (known: http): set FileDescriptorName="
    assert message in daemon.output
