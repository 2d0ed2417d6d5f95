"""User-space instructions per request, counted by callgrind: the same on a busy machine.

The server starts with counting off. Then it answers N and 3 N requests on a few connections that
stay open: the difference holds neither the start nor the connecting. All processes of the server
are counted.
"""

import collections
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import callgrind
from benchmarks.case import Case
from benchmarks.server import NotServing, Server
from testkit.http import Connection
from testkit.processes import session

CONNECTIONS = 4
START_TIMEOUT = 300.0  # seconds under valgrind
DUMP_TIMEOUT = 60  # seconds for a process to write its counts
ENVIRONMENT = {
    # Workers start slowly under valgrind, which lacks an instruction of Gunicorn's parser in C.
    "GUNICORN_CMD_ARGS": "--timeout=600 --http-parser=python",
    "PYTHONHASHSEED": "0",  # otherwise two runs would differ
}
VALGRIND = ("valgrind", "--quiet", "--tool=callgrind", "--trace-children=yes", "--instr-atstart=no")

Parts = collections.Counter[str]  # instructions by part of a server
Start = Callable[..., Server]  # with prefix, environment and patience


@contextmanager
def counting(start: Start) -> Iterator["Counter"]:
    """Run a server under callgrind and yield its counter; raise NotServing if it does not start."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o1777)  # a worker may have changed its user
        prefix = (*VALGRIND, f"--callgrind-out-file={folder}/%p")
        with start(prefix=prefix, environment=ENVIRONMENT, patience=START_TIMEOUT) as server:
            yield Counter(server, Path(folder))


class Counter:
    """Counts the instructions of a running server."""

    def __init__(self, server: Server, folder: Path) -> None:
        self._server, self._folder = server, folder

    def measure(self, case: Case, requests: int) -> tuple[Parts, Parts]:
        """Count ``requests`` and three times as many, after a warm-up, by part of the server."""
        ask(self._server.port, case, CONNECTIONS)  # it listens, but its worker may not be ready
        self.switch_on()
        self._run(case, requests)
        return self._run(case, requests), self._run(case, 3 * requests)

    def _run(self, case: Case, requests: int) -> Parts:
        return self.count(partial(ask, self._server.port, case, requests))

    def switch_on(self) -> None:
        """Begin to count."""
        self._control("instrumentation", "on")

    def count(self, *work: Callable[[], object]) -> Parts:
        """Let ``work`` be done, and return the instructions since the last call."""
        for step in work:
            step()
        self._control("dump")
        counted = Parts()
        for file in list(self._folder.iterdir()):
            counted += callgrind.read(file)
            file.unlink()
        return counted

    def _control(self, *command: str) -> None:
        for pid in session(self._server.pid):
            vgdb = ["timeout", str(DUMP_TIMEOUT), "vgdb", f"--pid={pid}", *command]
            result = subprocess.run(vgdb, capture_output=True, text=True, check=False)  # noqa: S603
            if result.returncode:
                raise NotServing(f"cannot count process {pid}: {result.stderr.strip()}")


def ask(port: int, case: Case, requests: int) -> None:
    """Send ``requests`` on a few connections in turn; reconnect where the server closes.

    One at a time: how many requests a server finds waiting would depend on the machine.
    """
    clients = [_Client(port, case) for _ in range(CONNECTIONS)]
    for client in islice(cycle(clients), requests):
        client.ask()
    for client in clients:
        client.close()


class _Client:
    """A connection that sends the same request again and again."""

    def __init__(self, port: int, case: Case) -> None:
        self._port, self._case = port, case
        self._connect()

    def _connect(self) -> None:
        self._connection = Connection(self._port)
        if self._case.frame:
            self._connection.send(self._case.request)
            self._connection.receive()

    def ask(self) -> None:
        if self._case.frame:
            self._connection.send_frame(self._case.frame)
            self._connection.receive_frame()
            return
        self._connection.send(self._case.request)
        if self._connection.receive().closes:
            self.close()
            self._connect()

    def close(self) -> None:
        self._connection.close()
