"""A daemon of root, and a user who may write where its files are."""

import json
import os
import pwd
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from api_hour.owned_files import ForeignFile, open_owned
from runtime.tests.system.test_privileges import PROJECT
from testkit.processes import API_HOUR, Daemon, Program
from testkit.waiting import TIMEOUT, until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="root alone follows the rule")

MALLORY = 54321  # a user without an account
NOBODY = pwd.getpwnam("nobody")
FREE = ("--listen", "http=tcp://127.0.0.1:0")
STARTS = """\
import json, os, sys
from api_hour.cli import main

for number, arguments in enumerate(json.loads(sys.argv[1])):
    if os.fork() == 0:
        out = os.open(f"out{number}", os.O_CREAT | os.O_WRONLY)
        os.dup2(out, 1)
        os.dup2(out, 2)
        sys.argv = ["api_hour", *arguments]
        main()
    print(os.waitstatus_to_exitcode(os.wait()[1]))
"""  # each in a child of one process, which imports once
LOGGING = """\
root: {{level: INFO, handlers: [file]}}
handlers:
  file: {{class: logging.handlers.WatchedFileHandler, filename: {}}}
"""


class Stage:
    """Folders of root's and of mallory's, and a file of root's that none of them may change."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.chmod(0o755)
        (folder / "hello.py").write_text(PROJECT)
        self.theirs = self.made("theirs", MALLORY, 0o755)
        self.writable = self.made("writable", 0, 0o777)
        self.sticky = self.made("sticky", 0, 0o1777)
        self.target = folder / "target"
        self.target.write_text("of root\n")

    def made(self, name: str, user: int, mode: int) -> Path:
        (self.folder / name).mkdir()
        os.chown(self.folder / name, user, user)
        (self.folder / name).chmod(mode)
        return self.folder / name

    def link(self, path: Path) -> Path:
        path.symlink_to(self.target)
        os.chown(path, MALLORY, MALLORY, follow_symlinks=False)
        return path

    def foreign(self, path: Path) -> Path:
        path.write_text("of mallory\n")
        os.chown(path, MALLORY, MALLORY)
        return path

    def hard_link(self, path: Path) -> Path:
        os.link(self.target, path)
        return path

    def listening(self, path: Path) -> Path:
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(path))
        sock.close()  # so it is stale
        os.chown(path, MALLORY, MALLORY)
        return path

    def logging(self, path: Path) -> Path:
        etc = self.folder / "other"
        etc.mkdir()
        (etc / "logging.yaml").write_text(LOGGING.format(path))
        return etc


@pytest.fixture
def stage() -> Iterator[Stage]:
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(Path(folder))
        before = stage.target.stat()
        yield stage
        after = stage.target.stat()
        assert stage.target.read_text() == "of root\n"
        assert (before.st_uid, before.st_mode) == (after.st_uid, after.st_mode)


LINK, OWNER = "theirs/{} is not followed: ", f"belongs to user {MALLORY}"
WRITABLE = "others than user 0 may write to "
Case = tuple[str, Callable[[Stage, str], Path], str]
REFUSED: dict[str, Case] = {
    "pid: a link": ("--pid", lambda s, n: s.link(s.theirs / n), LINK),
    "pid: a link in /tmp": ("--pid", lambda s, n: s.link(s.sticky / n), "is not followed: it"),
    "pid: a foreign file": ("--pid", lambda s, n: s.foreign(s.sticky / n), OWNER),
    "pid: a hard link": ("--pid", lambda s, n: s.hard_link(s.sticky / n), "has a second name"),
    "pid: a foreign folder": ("--pid", lambda s, n: s.theirs / n, OWNER),
    "pid: a writable folder": ("--pid", lambda s, n: s.writable / n, WRITABLE),
    "errorlog: a link": ("--error-logfile", lambda s, n: s.link(s.theirs / n), LINK),
    "errorlog: a foreign file": ("--error-logfile", lambda s, n: s.foreign(s.theirs / n), OWNER),
    "accesslog: a hard link": (
        *("--access-logfile", lambda s, n: s.hard_link(s.theirs / n), "has a second name"),
    ),
    "logging.yaml: a link": ("--config-dir", lambda s, n: s.logging(s.link(s.theirs / n)), "log"),
    "socket: a link": ("--bind", lambda s, n: s.link(s.theirs / n), LINK),
    "socket: a foreign socket": ("--bind", lambda s, n: s.listening(s.theirs / n), OWNER),
    "reload: a link": ("reload", lambda s, n: s.link(s.theirs / n), "Too many levels"),
}


def test_what_others_have_put_there_ends_the_start_and_stays_as_it_was(stage: Stage) -> None:
    commands = []
    for number, (option, make, _) in enumerate(REFUSED.values()):
        path = make(stage, f"file{number}")
        commands.append(["reload", f"{path}"])
        if option != "reload":
            value = f"unix:{path}" if option == "--bind" else f"{path}"
            listen = () if option == "--bind" else FREE
            commands[-1] = ["hello:Container", "--user=nobody", option, value, *listen]
    program = (sys.executable, "-c", STARTS, json.dumps(commands))
    with Program(*program, folder=stage.folder) as starts:  # and none of them stays
        assert starts.wait() == 0
    for number, (name, code) in enumerate(zip(REFUSED, starts.lines, strict=True)):
        told = (stage.folder / f"out{number}").read_text()
        last = told.strip().splitlines()[-1]
        assert code == "1", (name, told)
        assert last.startswith("api_hour"), (name, told)
        assert REFUSED[name][2].format(f"file{number}") in last, (name, told)
        assert str(stage.folder) in last, (name, told)
        assert "Traceback" not in told, (name, told)


def test_the_owner_of_the_folder_of_the_log_cannot_lead_root_elsewhere(stage: Stage) -> None:
    """It is the workers' user, as with Gunicorn, so the daemon starts and rotates its log."""
    logs = stage.made("logs", NOBODY.pw_uid, 0o755)
    log, old, pid_file = logs / "log", logs / "old", stage.folder / "pid"
    listen = ("--listen", f"http=unix:{stage.sticky}/sock")
    arguments = ["hello:Container", "--user=nobody", "--error-logfile", str(log), *listen]
    command = [*API_HOUR, "reload", str(pid_file)]
    with Daemon(stage.folder, *arguments, "--pid", str(pid_file)) as daemon:
        until(lambda: log.exists() and "Worker ready" in log.read_text(), "it does not start")
        assert log.stat().st_uid == NOBODY.pw_uid
        log.rename(old)
        stage.link(log)
        daemon.send(signal.SIGUSR1)
        until(lambda: "Handling signal: usr1" in old.read_text(), "nothing is logged")
        failed = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
        assert failed.returncode == 1
        assert f"the link {log} is not followed: it belongs to user {MALLORY};" in failed.stderr
        assert "Reload failed, the running workers stay" in old.read_text()
        log.unlink()
        daemon.send(signal.SIGUSR1)
        until(log.exists, "the log is not made again")
        assert log.stat().st_uid == NOBODY.pw_uid
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
        assert done.stdout.startswith("Reloaded: "), done
        until(lambda: "Reloaded: " in log.read_text(), "the new file is not written")
        assert daemon.stop() == 0
    assert not (stage.sticky / "sock").exists()


def test_root_serves_the_project_of_a_user_and_says_so_once(stage: Stage) -> None:
    """As ``sudo make serve`` does in a developer's folder."""
    (stage.theirs / "hello.py").write_text(PROJECT)
    stage.theirs.chmod(0o775)  # as the umask 002 of many systems leaves it
    log = stage.foreign(stage.theirs / "log")
    options = ["--pid", "pid", "--error-logfile", "log", "--listen", "http=unix:sock"]
    with Daemon(stage.theirs, "hello:Container", *options) as daemon:
        until(lambda: "Worker ready" in log.read_text(), "it does not start")
        assert daemon.stop() == 0
    told = f"root obeys {stage.theirs}, which others can change: {stage.theirs} belongs to user"
    assert log.read_text().count(told) == log.read_text().count("root obeys") == 1


def test_a_configuration_that_others_have_put_there_is_not_run_at_a_reload(stage: Stage) -> None:
    (stage.sticky / "hello.py").write_text(PROJECT)
    planted, ran = stage.sticky / "gunicorn.conf.py", stage.folder / "ran"
    with Daemon(stage.sticky, "hello:Container", "--user=nobody", *FREE) as daemon:
        daemon.ready()
        stage.foreign(planted).write_text(f"open({str(ran)!r}, 'w')")
        mark = daemon.mark()
        daemon.send(signal.SIGHUP)
        told = f"Reload failed, the running workers stay: {planted} is not read: {planted} belongs"
        daemon.wait_for(f"{told} to user {MALLORY}, and all users may write to ", after=mark)
        assert not ran.exists()
        planted.unlink()
        daemon.send(signal.SIGHUP)
        daemon.wait_for("Reloaded: ", after=mark)
        assert daemon.stop() == 0


def test_a_log_is_not_given_away_where_it_is_a_device_or_already_open(
    stage: Stage, request: pytest.FixtureRequest
) -> None:
    before = os.stat("/dev/null")
    request.addfinalizer(partial(os.chown, "/dev/null", before.st_uid, before.st_gid))
    options = ["--user=nobody", "--access-logfile=/dev/null", "--error-logfile=/dev/stdout"]
    with Daemon(stage.folder, "hello:Container", *options, *FREE) as daemon:
        daemon.ready()
        mark = daemon.mark()
        daemon.send(signal.SIGUSR1)
        daemon.send(signal.SIGHUP)
        daemon.wait_for("Reloaded: ", after=mark)
        assert daemon.stop() == 0
        assert "failed" not in daemon.output
    after = os.stat("/dev/null")
    assert (before.st_uid, before.st_mode) == (after.st_uid, after.st_mode)


def test_an_open_file_of_another_process_is_opened_if_that_is_roots(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("of root\n")
    os.link(target, tmp_path / "second")
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    with target.open() as only_read:
        for user in (0, MALLORY):
            command = ["sleep", "600"]
            with subprocess.Popen(
                command, stdin=only_read, stdout=subprocess.PIPE, user=user
            ) as other:
                output, read = (f"/proc/{other.pid}/fd/{number}" for number in (1, 0))
                try:
                    if user == 0:
                        descriptor = open_owned(output, flags, "the log", anywhere=True)
                        assert os.get_blocking(descriptor)
                        os.write(descriptor, b"one line\n")
                        os.close(descriptor)
                        assert other.stdout is not None
                        assert other.stdout.readline() == b"one line\n"
                        with pytest.raises(ForeignFile, match="has a second name"):
                            open_owned(read, flags, "the log", anywhere=True)
                    else:
                        with pytest.raises(ForeignFile, match="is not followed"):
                            open_owned(output, flags, "the log", anywhere=True)
                finally:
                    other.kill()
    assert target.read_text() == "of root\n"
