"""The master's end of ``api_hour reload``, where a daemon cannot show it."""

import os
import resource
import socket
import time
from pathlib import Path

from api_hour.master.poller import Poller
from api_hour.master.reload_requests import ReloadRequests


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
