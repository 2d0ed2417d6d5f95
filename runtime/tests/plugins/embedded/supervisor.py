"""The plugin's command under test, and what the tests ask about its processes."""

import fcntl
import os
import pty
import queue
import shutil
import subprocess
import sys
import tempfile
import termios
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import parse_dsn

from api_hour.plugins import embedded
from testkit.waiting import TIMEOUT, until

PACKAGE = Path(embedded.__file__).parents[2]
PYTHON = [sys.executable, "-m", embedded.__name__]
NO_SOCKETS = shutil.ignore_patterns(".s.PGSQL.*")  # copytree() fails at one that a kill left
STOP_SIGNALS = ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"]
SIGNALS = [*STOP_SIGNALS, "SIGUSR1", "SIGUSR2", "SIGTTIN", "SIGTTOU"]

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")

# A COMMAND that prints each signal after the database has answered, and exits at the n-th one that
# asks it to stop.
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
    left -= number in numbers[:{len(STOP_SIGNALS)}]
"""

# What leads from SQL to programs, files, libraries and more rights.
REFUSED = r"""
COPY (SELECT 1) TO PROGRAM 'id'
CREATE TEMPORARY TABLE t (line text); COPY t FROM PROGRAM 'id'
COPY (SELECT 1) TO '/tmp/x'
CREATE TEMPORARY TABLE t (line text); COPY t FROM '/etc/passwd'
SELECT pg_read_file('/etc/passwd')
SELECT pg_read_binary_file('PG_VERSION')
SELECT pg_ls_dir('/')
SELECT pg_stat_file('/etc/passwd')
SELECT lo_import('/etc/passwd')
SELECT lo_export(lo_from_bytea(0, 'x'), '/tmp/x')
CREATE FUNCTION f() RETURNS int LANGUAGE c AS 'libc.so.6', 'getpid'
CREATE FUNCTION f() RETURNS int LANGUAGE internal AS 'pg_backend_pid'
LOAD '/tmp/x.so'
SET session_preload_libraries = 'x'
SET dynamic_library_path = '/tmp'
ALTER SYSTEM SET archive_command = 'id'
SELECT pg_reload_conf()
SELECT pg_rotate_logfile()
CREATE TABLESPACE x LOCATION '/tmp'
CREATE EVENT TRIGGER x ON ddl_command_end EXECUTE FUNCTION x()
CREATE SUBSCRIPTION x CONNECTION 'host=/tmp' PUBLICATION x
CREATE FOREIGN DATA WRAPPER x
SET ROLE postgres
SET SESSION AUTHORIZATION postgres
ALTER ROLE api_hour SUPERUSER
ALTER ROLE api_hour CREATEROLE
ALTER ROLE postgres PASSWORD 'x'
GRANT postgres TO api_hour
GRANT pg_execute_server_program TO api_hour
GRANT pg_write_server_files TO api_hour
CREATE ROLE x
UPDATE pg_authid SET rolsuper = true
ALTER FUNCTION pg_read_file(text) OWNER TO api_hour
GRANT EXECUTE ON FUNCTION pg_read_file(text) TO api_hour
"""


class Supervisor:
    """The plugin's command in a session of its own, and its output.

    ``prefix`` is a command that runs it, ``python`` what stands for PYTHON; the other options are
    those of Popen.
    """

    def __init__(self, *arguments: object, prefix: tuple[object, ...] = (), **options: Any) -> None:
        command = [*prefix, *options.pop("python", PYTHON), "--data", *arguments]
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [str(part) for part in command],
            stdin=options.pop("stdin", subprocess.DEVNULL),
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            start_new_session=True,
            **options,
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
            return self._lines.get(timeout=TIMEOUT)
        except queue.Empty:
            raise AssertionError(f"no line came; errors:\n{self.errors}") from None

    @property
    def errors(self) -> str:
        """What it has written to standard error so far."""
        return os.pread(self._errors.fileno(), 1 << 20, 0).decode()  # moves nobody's position

    def exit_code(self, number: int | None = None) -> int:
        """Wait for the exit, after sending a signal if one is given; return the exit code."""
        if number is not None:
            self.process.send_signal(number)
        code = self.process.wait(TIMEOUT)
        self._reader.join(TIMEOUT)
        return code

    def __enter__(self) -> "Supervisor":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.exit_code()
        if self.process.stdout and not self._reader.is_alive():
            self.process.stdout.close()
        self._errors.close()


def run(*arguments: object, **options: Any) -> tuple[int, str, str]:
    """Run the plugin's command until it exits; return its code, output and errors."""
    with Supervisor(*arguments, **options) as supervisor:
        lines = list(iter(supervisor.line, "(end)"))
        return supervisor.exit_code(), "\n".join(lines), supervisor.errors


@contextmanager
def terminal(
    *arguments: object, prefix: tuple[object, ...] = ()
) -> Iterator[tuple[Supervisor, int]]:
    """Run the command in the foreground of a new terminal; yield it and the keyboard."""
    keyboard, screen = pty.openpty()
    settings = termios.tcgetattr(screen)
    settings[3] &= ~termios.ECHO
    termios.tcsetattr(screen, termios.TCSANOW, settings)
    control = lambda: fcntl.ioctl(screen, termios.TIOCSCTTY, 0)  # noqa: E731
    with Supervisor(*arguments, prefix=prefix, stdin=screen, preexec_fn=control) as supervisor:
        os.close(screen)
        try:
            yield supervisor, keyboard
        finally:
            with suppress(OSError):  # the test has closed it
                os.close(keyboard)


def recorder(stops: int = 1) -> tuple[object, ...]:
    """Return a COMMAND that prints its signals and exits at the n-th that asks it to stop."""
    return ("--", sys.executable, "-c", RECORDER, stops)


def wait_until_gone(folder: Path) -> None:
    """Wait until no process of ``folder`` is left."""
    until(lambda: not _processes(folder), f"still running: {_processes(folder)}")


def _processes(folder: Path) -> list[str]:
    """Return the command lines of the living processes that have to do with ``folder``."""
    commands = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            works_there = os.readlink(entry / "cwd").startswith(str(folder))
            knows_it = str(folder).encode() in (entry / "environ").read_bytes()
            if command and (works_there or knows_it or str(folder) in command):
                commands.append(command)
    return commands


def postmaster(data: Path) -> int:
    """Return the process id of the server of a data folder."""
    return int((data / "postgresql" / "postmaster.pid").read_text().split()[0])


def server_folder(url: str) -> Path:
    """Return the folder of the server's socket."""
    return Path(parse_dsn(url)["host"])


def as_superuser(data: Path, sql: str, **options: Any) -> tuple[int, str, str]:
    """Run SQL by the command's option; return its code, output and errors."""
    with tempfile.TemporaryFile("w+") as given:
        given.write(sql)
        given.seek(0)
        return run(data, "--superuser", stdin=given, **options)


def assert_sql_stays_inside(url: str) -> None:
    """Check that the role of a URL runs no program, touches no file, and cannot become more."""
    allowed = []
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        for statement in REFUSED.strip().splitlines():
            with suppress(psycopg2.errors.InsufficientPrivilege):
                cursor.execute(statement)
                allowed.append(statement)
    assert allowed == []


def query(url: str, text: str) -> Any:
    """Run and commit one statement; return the first value of its answer, if it has one."""
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(text)
        row = cursor.fetchone() if cursor.description else None
        return row and row[0]
