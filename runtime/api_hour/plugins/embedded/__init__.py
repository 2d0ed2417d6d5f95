"""The development PostgreSQL: a real server for as long as a command, or a test, runs.

Never for production. A supervisor runs both as its children: COMMAND in a process group of its
own that has the terminal, so that each signal reaches it once; the server ends last.
"""

import argparse
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import which
from urllib.parse import parse_qs, urlsplit

from api_hour.exceptions import ConfigError
from api_hour.plugins.embedded.cluster import Cluster, InUse, running, say
from api_hour.plugins.embedded.host import die_with_parent

MODULE = "api_hour.plugins.embedded"
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
PASSED_ON = (*STOPPING, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU)
TWICE = 0.1  # seconds in which a second TERM is the same one: make passes on what its group got


class PostgreSQL:
    """Hold a server at ``url``, which tests may stop and start again, from any thread."""

    def __init__(self, data: Path, url: str = "") -> None:
        self.url = url
        self._data = data
        self._supervisor: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int:
        """Return the process id of the server itself."""
        if self._supervisor is None:
            raise ConfigError("this PostgreSQL is stopped, or is not ours (DATABASE_URL)")
        folder = parse_qs(urlsplit(self.url).query)["host"][0]
        return int(Path(folder, ".s.PGSQL.5432.lock").read_text().split()[0])

    def start(self) -> None:
        """Start the server, again if it runs; raise ConfigError when it accepts no connections."""
        self.stop()
        command = [sys.executable, "-m", MODULE, "--until-eof", "--data", str(self._data)]
        self._supervisor = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "DATABASE_URL": ""},
            start_new_session=True,
        )
        answer = self._supervisor.stdout
        self.url = answer.readline().strip() if answer else ""
        if not self.url:
            _, said = self._supervisor.communicate()
            raise ConfigError(said.strip())

    def stop(self) -> None:
        """End the server and wait for its end; open connections are cut."""
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            with supervisor:
                supervisor.terminate()


@contextmanager
def postgresql(data: Path | str = ".data", *, own: bool = False) -> Iterator[PostgreSQL]:
    """Yield a running server with its data in the folder ``data``, kept afterwards.

    When DATABASE_URL is set, yield that one, which cannot be stopped, unless ``own`` is true.
    Raises ConfigError, with the cure, when no server can be had.
    """
    url = "" if own else os.environ.get("DATABASE_URL", "")
    server = PostgreSQL(Path(data), url)
    try:
        if not url:
            server.start()
        yield server
    finally:
        server.stop()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run COMMAND, or only the server, and return the exit code."""
    options = _parse(arguments)
    command: list[str] = options.command
    if command[:1] == ["--"]:
        del command[0]
    if command and which(command[0]) is None:
        say(f"{command[0]}: command not found")
        return 127
    if url := os.environ.get("DATABASE_URL"):
        return _without_server(command, url)
    inbox = _Inbox()
    if options.until_eof:
        inbox.watch(sys.stdin.fileno())
    try:
        with running(Path(options.data), inbox.pause) as cluster:
            return _supervise(command, cluster, inbox)
    except ConfigError as error:
        if command and isinstance(error, InUse) and error.url:
            say(f"Using the PostgreSQL that process {error.pid} runs")
            return _without_server(command, error.url)
        say(str(error))
        return 1


def _without_server(command: list[str], url: str) -> int:
    """Become COMMAND, or show the address; the server is another's."""
    if command:
        os.execvpe(command[0], command, {**os.environ, "DATABASE_URL": url})  # noqa: S606
    print(url)
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"python -m {MODULE}",
        usage="%(prog)s [-h] [--data DIR] [--until-eof] [--] [COMMAND [ARGS...]]",
        description="Run COMMAND with a PostgreSQL for development as its DATABASE_URL, or without"
        " COMMAND print the URL and run until Ctrl-C. A DATABASE_URL that is set is used instead.",
    )
    add = parser.add_argument
    add("--data", default=".data", metavar="DIR", help="data, kept between runs (%(default)s)")
    add("--until-eof", action="store_true", help="end when standard input does, too")
    add("command", nargs=argparse.REMAINDER, metavar="COMMAND", help="what to run")
    return parser.parse_args(arguments)


def _supervise(command: list[str], cluster: Cluster, inbox: "_Inbox") -> int:
    """Keep the server running until COMMAND, or a signal, ends this; return the exit code."""
    if not command:
        print(cluster.url, flush=True)
        while not set(STOPPING) & set(inbox.wait(cluster.tend())):
            pass
        return 0
    try:
        job = _Job(command, {**os.environ, "DATABASE_URL": cluster.url}, inbox)
    except OSError as error:
        say(f"{command[0]}: {error.strerror}")
        return 126
    while (code := job.exit_code()) is None:
        for number in inbox.wait(cluster.tend()):
            job.pass_on(number)
    return code


class _Inbox:
    """Hold signals, children's ends and hang-ups until asked for, so that none is lost."""

    def __init__(self) -> None:
        self._reader, writer = os.pipe()
        os.set_blocking(writer, False)
        self._poll = select.poll()
        self._poll.register(self._reader, select.POLLIN)
        signal.set_wakeup_fd(writer)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in PASSED_ON:
            if signal.getsignal(number) != signal.SIG_IGN:  # by nohup: for COMMAND, too
                signal.signal(number, lambda *_: None)

    def watch(self, descriptor: int) -> None:
        """Count the hang-up of a terminal or a pipe as TERM."""
        self._poll.register(descriptor, 0)

    def wait(self, seconds: float | None) -> list[int]:
        """Return the signals that came, as soon as there is news, or after ``seconds``."""
        numbers: list[int] = []
        for descriptor, _ in self._poll.poll(None if seconds is None else seconds * 1000):
            if descriptor == self._reader:
                numbers += os.read(descriptor, 4096)
            else:
                self._poll.unregister(descriptor)
                numbers.append(signal.SIGTERM)
        return [number for number in numbers if number in PASSED_ON]

    def pause(self, seconds: float) -> None:
        """Wait during the start; exit when a signal asks for the end."""
        if asked := set(STOPPING) & set(self.wait(seconds)):
            sys.exit(128 + asked.pop())


class _Job:
    """COMMAND in a process group of its own, which holds the terminal while it runs."""

    def __init__(self, command: list[str], environment: dict[str, str], inbox: _Inbox) -> None:
        self._parent = os.getpid()
        self._last: dict[int, float] = {}
        self._terminal: int | None = None
        with suppress(OSError):  # without a terminal
            self._terminal = os.open("/dev/tty", os.O_RDWR)
        if self._terminal is not None and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            inbox.watch(self._terminal)  # but not under nohup
        self._child = subprocess.Popen(  # noqa: S603
            command, env=environment, process_group=0, preexec_fn=self._enter
        )

    def _enter(self) -> None:
        """Prepare the child: the terminal is given before it can read from it."""
        self._hand_over(os.getpgid(self._parent), os.getpid())
        die_with_parent(signal.SIGTERM, self._parent)

    def _hand_over(self, holder: int, heir: int) -> None:
        """Give the terminal from one process group to another, if the first one has it."""
        if self._terminal is None:
            return
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        with suppress(OSError):  # it has hung up
            if os.tcgetpgrp(self._terminal) == holder:
                os.tcsetpgrp(self._terminal, heir)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def pass_on(self, number: int) -> None:
        """Send COMMAND a signal, once."""
        now = time.monotonic()
        last, self._last[number] = self._last.get(number, -TWICE), now
        if number not in STOPPING or now - last >= TWICE:
            os.kill(self._child.pid, number)

    def exit_code(self) -> int | None:
        """Return COMMAND's exit code, 128 and the signal that killed it; None while it runs."""
        pid, status = os.waitpid(self._child.pid, os.WNOHANG | os.WUNTRACED)
        if pid and os.WIFSTOPPED(status):
            self._sleep()
        elif pid:
            self._hand_over(pid, os.getpgrp())
            with suppress(OSError):  # a shell, say, leaves its children behind
                os.killpg(pid, signal.SIGTERM)
            code = self._child.returncode = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        return None

    def _sleep(self) -> None:
        """Stop with COMMAND, as the shell expects after Ctrl-Z; carry on when it says so."""
        if self._terminal is not None:
            self._hand_over(self._child.pid, os.getpgrp())
            os.killpg(0, signal.SIGTSTP)
            self._hand_over(os.getpgrp(), self._child.pid)
            os.killpg(self._child.pid, signal.SIGCONT)
