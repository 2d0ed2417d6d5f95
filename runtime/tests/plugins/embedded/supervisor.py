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


def query(url: str, text: str) -> Any:
    """Run and commit one statement; return the first value of its answer, if it has one."""
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(text)
        row = cursor.fetchone() if cursor.description else None
        return row and row[0]
