"""User-space instructions a request, counted by callgrind: the same on a busy machine.

A server starts with counting off. Then it answers N and 3 N requests on a few connections that are
kept: what they have in common, such as connecting, is not in the difference, and neither is the
start. All processes of the server are counted.
"""

import collections
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.case import Case
from benchmarks.parts import parts
from benchmarks.server import NotServing, Server
from testkit.http import Connection
from testkit.processes import session

CONNECTIONS = 4
STARTING = 300.0  # seconds under valgrind
TELLING = 60  # seconds until a process has written its counts
ENVIRONMENT = {
    # Its workers are silent while they start; valgrind lacks an instruction of its parser in C.
    "GUNICORN_CMD_ARGS": "--timeout=600 --http-parser=python",
    "PYTHONHASHSEED": "0",  # or two servers would not cost the same
}
VALGRIND = ("valgrind", "--quiet", "--tool=callgrind", "--trace-children=yes", "--instr-atstart=no")

Parts = collections.Counter[str]  # instructions by part of a server
Start = Callable[..., Server]  # with prefix, environment and patience


@contextmanager
def counting(start: Start) -> Iterator["Counter"]:
    """Run a server under callgrind, and yield what counts its instructions; raises NotServing."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o1777)  # a worker may have become another user
        prefix = (*VALGRIND, f"--callgrind-out-file={folder}/%p")
        with start(prefix=prefix, environment=ENVIRONMENT, patience=STARTING) as server:
            yield Counter(server, Path(folder))


class Counter:
    """Count the instructions of a server that has started."""

    def __init__(self, server: Server, folder: Path) -> None:
        self._server, self._folder = server, folder

    def measure(self, case: Case, requests: int) -> tuple[Parts, Parts]:
        """Count ``requests`` and three times as many, once warmed up, by parts of the server."""
        ask(self._server.port, case, CONNECTIONS)  # whoever listens may have no worker yet
        self._tell("instrumentation", "on")
        self._run(case, requests)
        return self._run(case, requests), self._run(case, 3 * requests)

    def _run(self, case: Case, requests: int) -> Parts:
        """Return the instructions since the last time."""
        ask(self._server.port, case, requests)
        self._tell("dump")
        counted = Parts()
        for file in list(self._folder.iterdir()):
            counted += parts(file)
            file.unlink()
        return counted

    def _tell(self, *command: str) -> None:
        for pid in session(self._server.pid):
            vgdb = ["timeout", str(TELLING), "vgdb", f"--pid={pid}", *command]
            said = subprocess.run(vgdb, capture_output=True, text=True, check=False)  # noqa: S603
            if said.returncode:
                raise NotServing(f"process {pid} is not counted: {said.stderr.strip()}")


def ask(port: int, case: Case, requests: int) -> None:
    """Ask ``requests`` times on a few connections in turn; one that is closed is made again.

    One at a time: how many requests a server finds at once would depend on the machine.
    """
    clients = [_Client(port, case) for _ in range(CONNECTIONS)]
    for client in islice(cycle(clients), requests):
        client.ask()
    for client in clients:
        client.close()


class _Client:
    """Hold one connection on which the same is asked again and again."""

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
