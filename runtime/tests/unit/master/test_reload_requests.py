"""The socket beside the pid file: whose file it takes, and what it does without descriptors."""

import contextlib
import os
import resource
import socket
import time
from pathlib import Path

import pytest

from api_hour.master.poller import Poller
from api_hour.master.reload_requests import BACKLOG, MAX_WAITING, SUFFIX, ReloadRequests


def test_only_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / f"pid{SUFFIX}"
    path.write_text("precious")
    with pytest.raises(OSError, match="exists and is not a socket"):
        ReloadRequests(str(tmp_path / "pid"))
    assert path.read_text() == "precious"
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(OSError, match="in use"):
            ReloadRequests(str(tmp_path / "pid"))
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
    ReloadRequests(str(tmp_path / "pid")).remove()
    assert not path.exists()


def test_without_descriptors_requests_wait_and_the_master_does_not_spin(tmp_path: Path) -> None:
    requests, poller = ReloadRequests(str(tmp_path / "pid")), Poller()
    poller.watch(requests, lambda: None)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "pid.sock"))
        free = os.dup(client.fileno())
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        try:
            turns, end = 0, time.monotonic() + 0.2
            while time.monotonic() < end:
                assert poller.wait(1.0)
                assert not requests.accept()
                turns += 1
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert turns <= 11
        assert requests.accept()
    requests.remove()
    poller.close()


def test_those_who_connect_again_and_again_do_not_hold_up_the_master(tmp_path: Path) -> None:
    requests, path = ReloadRequests(str(tmp_path / "pid")), str(tmp_path / "pid.sock")
    clients: list[socket.socket] = []

    def connect_many() -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                client = socket.socket(socket.AF_UNIX)
                clients.append(client)
                client.setblocking(False)
                client.connect(path)

    for turn in range(1, 7):
        connect_many()
        assert requests.accept() is (turn * BACKLOG <= MAX_WAITING)
        waiting = len(requests._waiting)
        assert waiting == min(turn * BACKLOG, MAX_WAITING)
    requests.answer("done", ok=True)
    assert clients[0].recv(100) == b"ok done\n"
    for client in clients:
        client.close()
    requests.remove()
