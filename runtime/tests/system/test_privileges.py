"""What a daemon of root gives up before it runs the project's code."""

import os
import pwd
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from testkit.processes import API_HOUR, Daemon
from testkit.waiting import TIMEOUT, until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")

# Without an import but what the master has: the user may not be able to read root's Python.
PROJECT = """\
import asyncio

import api_hour


class Server:
    async def start(self, sock):
        self.sock = sock
        asyncio.get_running_loop().add_reader(sock, lambda: None)

    async def drain(self, deadline):
        asyncio.get_running_loop().remove_reader(self.sock)


class Container(api_hour.Container):
    def servers(self):
        return {"http": Server()}
"""
FREE = ("--listen", "http=tcp://127.0.0.1:0")
NOBODY = pwd.getpwnam("nobody")
OTHER = 65533  # a group without a name
# A user of this machine with more than one group, if there is one.
RICH = next(
    (user for user in pwd.getpwall() if len(os.getgrouplist(user.pw_name, user.pw_gid)) > 1), NOBODY
)
THEIRS = os.getgrouplist(RICH.pw_name, RICH.pw_gid)
ROOTS = [0, 4, 6]  # supplementary groups of the shell that starts the daemon


@pytest.fixture
def readable() -> Iterator[Path]:
    """Return a project that every user can read."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "hello.py").write_text(PROJECT)
        os.chmod(folder, 0o755)  # noqa: S103 - every user shall read it
        yield Path(folder)


def rights(pid: int) -> tuple[set[int], set[int], set[int], str]:
    """Return the users, the groups, the supplementary groups and the capabilities of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = dict(re.findall(r"^(Uid|Gid|Groups|CapEff):\s*(.*)$", status, re.MULTILINE))
    users, groups, more = (
        {int(number) for number in found[name].split()} for name in ("Uid", "Gid", "Groups")
    )
    return users, groups, more, found["CapEff"].strip("0")


@pytest.mark.parametrize(
    ("options", "uid", "gid", "groups"),
    [
        (["--user=nobody"], NOBODY.pw_uid, NOBODY.pw_gid, [NOBODY.pw_gid]),
        (["--user=nobody", f"--group={OTHER}"], NOBODY.pw_uid, OTHER, [OTHER]),
        ([f"--user={RICH.pw_uid}", "--initgroups"], RICH.pw_uid, RICH.pw_gid, THEIRS),
        (
            [f"--user={RICH.pw_uid}", f"--group={OTHER}", "--initgroups"],
            *(RICH.pw_uid, OTHER, {*THEIRS, OTHER} - {RICH.pw_gid}),
        ),
    ],
    ids=["user", "user and group", "user and initgroups", "all three"],
)
def test_workers_have_no_right_of_root(
    readable: Path, options: list[str], uid: int, gid: int, groups: list[int]
) -> None:
    command = ["setpriv", "--groups", ",".join(map(str, ROOTS)), *API_HOUR]
    pid_file = readable / "pid"
    arguments = ["hello:Container", *FREE, "--pid", str(pid_file), *options]

    def all_are_dropped(master: int) -> None:
        assert rights(master)[:3] == ({0}, {0}, {*ROOTS})
        for worker in daemon.workers():
            assert rights(worker) == ({uid}, {gid}, {*groups}, "")
            assert os.getsid(worker) == worker  # so it has no terminal of root's

    with Daemon(readable, *arguments, command=command) as daemon:
        daemon.ready()
        all_are_dropped(daemon.pid)
        mark = daemon.mark()
        daemon.send(signal.SIGHUP)
        daemon.wait_for("left: exit code 0", after=mark)
        all_are_dropped(daemon.pid)
        mark = daemon.mark()
        daemon.send(signal.SIGUSR2)
        daemon.ready(after=mark)
        successor = int(Path(f"{pid_file}.2").read_text())
        daemon.send(signal.SIGTERM)
        until(lambda: pid_file.exists() and not daemon.workers()[:-1], "the old workers stay")
        all_are_dropped(successor)
        assert "run as root" not in daemon.output


def test_a_way_back_to_root_ends_the_boot(readable: Path) -> None:
    command = ["setpriv", "--securebits", "+no_setuid_fixup", *API_HOUR]
    with Daemon(readable, "hello:Container", *FREE, "--user=nobody", command=command) as daemon:
        daemon.wait_for(rf"CRITICAL.*user {NOBODY.pw_uid} .* would still have a way back to root")
        assert daemon.wait() == 1


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--user=4242"], "user 4242 has no account: set its group, too"),
        (["--user=4242", "--group=4242", "--initgroups"], "user 4242 has no account, so no groups"),
    ],
)
def test_a_user_without_an_account_needs_a_group(
    readable: Path, options: list[str], text: str
) -> None:
    command = [*API_HOUR, "--check-config", "hello:Container", *options]
    ended = subprocess.run(
        command, cwd=readable, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    assert (ended.returncode, text in ended.stderr) == (1, True), ended.stderr


def test_workers_that_run_as_root_are_warned_of_once(readable: Path) -> None:
    with Daemon(readable, "hello:Container", *FREE, "--workers=2") as daemon:
        daemon.ready(2)
        daemon.stop()
        assert daemon.output.count("the workers run as root") == 1
    for check in ("--check", "--check-config"):
        command = [*API_HOUR, check, "hello:Container", *FREE]
        ended = subprocess.run(
            command, cwd=readable, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
        assert ended.returncode == 0
        assert ended.stderr.count("the workers run as root") == 1, check
