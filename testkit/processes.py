"""A real daemon under test: start it, wait for what it logs, talk to it, leave nothing behind."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from testkit.waiting import TIMEOUT, until


class Daemon:
    """Run ``api_hour`` on a project folder in a session of its own."""

    def __init__(self, folder: Path, *arguments: str, **environ: str) -> None:
        self.folder = folder
        self.lines: list[str] = []
        self._news = threading.Condition()
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", **environ}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "api_hour", *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
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

    def kill(self) -> None:
        """End every process of the session, whatever state it is in."""
        for pid in session(self.process.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait(TIMEOUT)
        self._reader.join(TIMEOUT)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self.lines.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    @property
    def output(self) -> str:
        """Return everything printed so far."""
        return "\n".join(self.lines)

    def wait_for(self, pattern: str, *, count: int = 1, after: int = 0) -> re.Match[str]:
        """Return the ``count``-th match of a log line after line ``after``; fails at the end."""
        deadline = time.monotonic() + TIMEOUT
        with self._news:
            while True:
                matches = [
                    m for m in (re.search(pattern, line) for line in self.lines[after:]) if m
                ]
                if len(matches) >= count:
                    return matches[count - 1]
                left = deadline - time.monotonic()
                if left <= 0 or (self.process.poll() is not None and not self._reader.is_alive()):
                    raise AssertionError(f"no {count} of {pattern!r} in:\n" + self.output)
                self._news.wait(min(left, 0.5))

    def ready(self, workers: int = 1, *, after: int = 0) -> Self:
        """Wait until so many workers have become ready since line ``after``."""
        self.wait_for(r"Worker ready \(pid: \d+\)", count=workers, after=after)
        return self

    def mark(self) -> int:
        """Return a place in the log, for ``after``."""
        return len(self.lines)

    def port(self, name: str = "http") -> int:
        """Return the port that a listener was given."""
        return int(self.wait_for(rf"Listening on {name} at tcp://\S*:(\d+)")[1])

    def send(self, number: int) -> None:
        """Send a signal to the master."""
        self.process.send_signal(number)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal that ends the master; return its exit code once nothing is left."""
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> int:
        """Wait for the end; return the exit code; fails when a process of the session is left."""
        code = self.process.wait(TIMEOUT)
        self._reader.join(TIMEOUT)
        until(lambda: not session(self.process.pid), "a process was left behind")
        return code

    def workers(self) -> list[int]:
        """Return the process ids of the master's children that are workers."""
        started = [int(m) for m in re.findall(r"Booting worker with pid: (\d+)", self.output)]
        return [pid for pid in started if pid in session(self.process.pid)]

    def get(self, path: str = "/", name: str = "http") -> tuple[int, Any]:
        """Return status and JSON of a GET on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port(name), timeout=TIMEOUT)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()


def session(leader: int) -> list[int]:
    """Return the living processes of a session, zombies left out."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[3]) == leader and fields[0] != "Z":
                found.append(int(entry.name))
    return found
