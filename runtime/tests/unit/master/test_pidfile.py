"""A pid file that cannot be written leaves nothing open, so its lock is gone as well."""

import os
import socket
from pathlib import Path

import pytest

from api_hour.exceptions import ConfigError
from api_hour.master import reload_requests
from api_hour.master.pidfile import PidFile, holder


def test_a_full_disk_leaves_no_lock() -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(ConfigError, match=r"the pid file /dev/full cannot be written: "):
        PidFile("/dev/full", 1)
    assert os.listdir("/proc/self/fd") == before
    assert holder("/dev/full") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can become somebody else")
def test_only_the_pid_files_user_and_root_answer_a_reload(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    held = PidFile(str(path), 1)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{path}.sock")
        os.seteuid(54321)
        try:
            listener.listen()  # the kernel keeps who does this
        finally:
            os.seteuid(0)
        with pytest.raises(
            ConfigError, match=r"user 54321 listens at .*, and .* to user 0: remove"
        ):
            reload_requests.request(str(path), 5.0)
    held.remove()
