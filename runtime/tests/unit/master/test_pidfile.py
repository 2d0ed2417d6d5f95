"""A pid file that cannot be written leaves nothing open, so its lock is gone as well."""

import os

import pytest

from api_hour.exceptions import ConfigError
from api_hour.master.pidfile import PidFile, is_locked


def test_a_full_disk_leaves_no_lock() -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(ConfigError, match=r"the pid file /dev/full cannot be written: "):
        PidFile("/dev/full", 1)
    assert os.listdir("/proc/self/fd") == before
    assert not is_locked("/dev/full")
