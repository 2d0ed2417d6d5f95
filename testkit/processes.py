"""Programs and daemons under test: start one, wait for its output, leave none of its processes."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from testkit.waiting import TIMEOUT, until

API_HOUR = (sys.executable, "-m", "api_hour")


class Program:
    """A program in a session of its own, whose output is read line by line.

    It takes part in a ``with`` statement: at the end no process of the session is left, and the
    output is printed if the block failed. ``environment`` replaces ours. ``before_exec`` runs in
    the child, for example to become another user.
    """

    def __init__(
        self,
        *command: str | Path,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
        pass_fds: Collection[int] = (),
        before_exec: Callable[[], object] | None = None,
    ) -> None:
        self.lines: list[str] = []
        self.reading = threading.Event()  # while it is cleared, the program's pipe fills up
        self.reading.set()
        self._news = threading.Condition()
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            pass_fds=pass_fds,
            preexec_fn=before_exec,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        if error is not None:
            print(self.output)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.reading.wait()
            with self._news:
                self.lines.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    @property
    def pid(self) -> int:
        """Return the process id of the program, which is also the id of its session."""
        return self.process.pid

    @property
    def output(self) -> str:
        """Return everything printed so far."""
        return "\n".join(self.lines)

    def mark(self) -> int:
        """Return the current position in the output, for ``after``."""
        return len(self.lines)

    def wait_for(self, pattern: str, *, count: int = 1, after: int = 0) -> re.Match[str]:
        """Return the ``count``-th match of ``pattern`` in the lines after position ``after``.

        Raises AssertionError when the program ends, or the time is over, before it is printed.
        """
        deadline = time.monotonic() + TIMEOUT
        with self._news:
            while True:
                matches = [
                    match
                    for match in (re.search(pattern, line) for line in self.lines[after:])
                    if match
                ]
                if len(matches) >= count:
                    return matches[count - 1]
                left = deadline - time.monotonic()
                if left <= 0 or (self.has_ended and not self._reader.is_alive()):
                    raise AssertionError(f"no {count} of {pattern!r} in:\n" + self.output)
                self._news.wait(min(left, 0.5))

    @property
    def has_ended(self) -> bool:
        """Tell whether the program has ended; other processes of its session may still run."""
        return self.process.poll() is not None

    def send(self, number: int) -> None:
        """Send a signal to the program."""
        self.process.send_signal(number)

    def send_all(self, number: int) -> None:
        """Send a signal to every process of the session."""
        for pid in session(self.pid):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal that ends the program, and wait as ``wait`` does."""
        self.send(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for the end and return the exit code; fails if a process of the session is left."""
        code = self.process.wait(TIMEOUT)
        self._reader.join(TIMEOUT)
        until(lambda: not session(self.pid), "a process was left behind")
        return code

    def kill(self) -> None:
        """Kill every process of the session, whatever state it is in."""
        self.send_all(signal.SIGKILL)
        self.process.wait(TIMEOUT)
        self.reading.set()
        self._reader.join(TIMEOUT)
        assert self.process.stdout is not None
        self.process.stdout.close()


class Daemon(Program):
    """API-Hour on the project in ``folder``.

    ``command`` is what precedes the arguments, in case the daemon starts in another way than by
    ``python -m api_hour``. ``variables`` are added to our environment.
    """

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        command: Sequence[str] = API_HOUR,
        variables: Mapping[str, str] | None = None,
        pass_fds: Collection[int] = (),
    ) -> None:
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", **(variables or {})}
        super().__init__(
            *command, *arguments, folder=folder, environment=environment, pass_fds=pass_fds
        )

    def ready(self, workers: int = 1, *, after: int = 0) -> Self:
        """Wait until that many workers have become ready since position ``after``."""
        self.wait_for(r"Worker ready \(pid: \d+\)", count=workers, after=after)
        return self

    def port(self, name: str = "http") -> int:
        """Return the port of a TCP listener."""
        return int(self.wait_for(rf"Listening on {name} at tcp://\S*:(\d+)")[1])

    def workers(self) -> list[int]:
        """Return the process ids of the living workers."""
        booted = [int(pid) for pid in re.findall(r"Booting worker with pid: (\d+)", self.output)]
        alive = session(self.pid)
        return [pid for pid in booted if pid in alive]

    def get(self, path: str = "/", name: str = "http") -> tuple[int, Any]:
        """Return status and JSON of a GET on a new connection to a listener."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port(name), timeout=TIMEOUT)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()


@contextmanager
def stranger(pid_file: Path) -> Iterator[Program]:
    """Yield a process that HUP and TERM end; the pid file names it, as a stale one may."""

    def obey() -> None:  # HUP may be ignored here, and children inherit that
        signal.signal(signal.SIGHUP, signal.SIG_DFL)

    with Program("sleep", "600", before_exec=obey) as process:
        pid_file.write_text(f"{process.pid}\n")
        yield process


def session(leader: int) -> list[int]:
    """Return the living processes of a session, without zombies."""
    return [pid for pid, fields in session_stats(leader) if fields[0] != "Z"]


def session_stats(leader: int) -> Iterator[tuple[int, list[str]]]:
    """Yield each process of a session and the fields of its stat file that follow the name.

    proc(5) numbers them from 3, the state.
    """
    for pid in [int(name) for name in os.listdir("/proc") if name.isdigit()]:
        try:
            if os.getsid(pid) != leader:  # much cheaper than to read each stat file
                continue
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == leader:  # and not a new process of the same number
            yield pid, fields


def tcp_sockets(pid: int, *, state: str = "") -> set[str]:
    """Return the inodes of the TCP sockets that a process holds, all or in one state (0A: listens).

    Empty for a process that is gone.
    """
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    tcp = {f"socket:[{row[9]}]" for row in rows if state in ("", row[3])}
    try:
        return tcp & {os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()}
    except (FileNotFoundError, ProcessLookupError):
        return set()
