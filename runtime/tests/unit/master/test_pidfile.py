"""A pid file that cannot be written leaves nothing open, so its lock is gone as well."""

import contextlib
import fcntl
import os
import socket
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api_hour.exceptions import ConfigError
from api_hour.logs.formatters import escape
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


CONTENT = st.binary(max_size=40) | st.sampled_from(
    [b"1", b"0", b"-1", b"99999999999999999999", b"1\n2\n", b"\x1b[2J", b" 1 ", b"self"]
)
KINDS = [*("file", "nothing", "link", "dangling", "loop", "pipe", "folder", "socket"), "device"]


def lay(path: Path, kind: str, content: bytes) -> None:
    """Put something at the place of a pid file; what links point to is beside it."""
    precious = path.with_name("precious")
    precious.write_bytes(content)
    if kind == "file":
        path.write_bytes(content)
    elif kind == "link":
        path.symlink_to(precious)
    elif kind == "dangling":
        path.symlink_to("nowhere")
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(path))


@settings(suppress_health_check=list(HealthCheck))
@given(CONTENT, st.sampled_from(KINDS), st.booleans())
def test_whatever_lies_there_a_start_takes_it_or_refuses_and_a_reload_signals_nobody(
    tmp_path: Path, content: bytes, kind: str, locked: bool
) -> None:
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    path = folder / "pid"
    lay(path, kind, content)
    with contextlib.ExitStack() as stack:
        if locked and kind == "file":
            fcntl.flock(stack.enter_context(path.open()), fcntl.LOCK_EX)
        with pytest.raises(ConfigError) as refused:
            reload_requests.request(str(path), 0.0)
        assert escape(str(refused.value)) == str(refused.value)
        try:
            taken = PidFile(str(path), 7)
        except ConfigError:
            assert kind not in ("file", "nothing") or locked
        else:
            assert (kind, locked) in [("file", False), ("nothing", False), ("nothing", True)]
            assert path.read_bytes() == b"7\n"
            taken.remove()
            assert not path.exists()
    assert path.with_name("precious").read_bytes() == content
    assert not (folder / "nowhere").exists()
