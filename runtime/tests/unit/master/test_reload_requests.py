"""The socket beside the pid file: whose file it takes, and what it does without descriptors."""

import os
import resource
import socket
import time
from pathlib import Path

import pytest

from api_hour.master import pidfile
from api_hour.master.reload_requests import SUFFIX, ReloadRequests


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


def test_a_request_that_finds_no_descriptor_makes_the_master_pause(tmp_path: Path) -> None:
    requests = ReloadRequests(str(tmp_path / "pid"))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / f"pid{SUFFIX}"))
        lowest_free = os.dup(client.fileno())
        os.close(lowest_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
        try:
            began = time.monotonic()
            assert not requests.accept()
            assert time.monotonic() - began >= pidfile.PAUSE
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert requests.accept()
    requests.remove()
