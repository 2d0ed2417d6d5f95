"""What a fault acts on: a running daemon with its project and load; and what faults wait for."""

import os
import re
import signal
import socket
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Self

from testkit.http import Connection, Response
from testkit.ledger import LedgerProject
from testkit.load import Load, Profile
from testkit.processes import API_HOUR, Daemon, session
from testkit.systemd import activated, descriptors
from testkit.waiting import until

WORKERS = 2
MAX_CONNECTIONS = 500  # by then one worker of two has surely accepted one
STARTING = r"\[(\d+)\] \[INFO\] \[api_hour\.master\] Starting API-Hour"  # group 1: the master's pid
GRACE = 20.0  # seconds of graceful_timeout


@dataclass(frozen=True)
class Form:
    """How long a scenario takes: short in the tests, long by hand."""

    window: float  # seconds of drain_idle
    calm: int  # responses to wait for between two steps
    attack: float  # seconds that a hostile worker has
    loop: str = "auto"


SHORT = Form(window=5.0, calm=100, attack=3.0)
FULL = Form(window=5.0, calm=1500, attack=600.0)


class Harness:
    """The daemons, the project, the loads and the notes of one scenario.

    It takes part in a ``with`` statement, after which no process is left.
    """

    daemon: Daemon  # the one that was started last

    def __init__(self, folder: Path, form: Form) -> None:
        self.form = form
        self.window = form.window
        self.options: tuple[str, ...] = ()
        self.variables: dict[str, str] = {}
        self.folder = folder
        self.project = LedgerProject(folder / "project", folder / "ledger")
        self.daemons: list[Daemon] = []
        self.loads: list[Load] = []
        self.notes: list[str] = []
        self.held: socket.socket | None = None
        self.successor = 0  # the pid of a master started by USR2 that finish() has to stop

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for daemon in self.daemons:
            daemon.kill()
        if self.held is not None:
            self.held.close()

    def hold_socket(self) -> None:
        """Open the listening socket here; every daemon started later inherits it."""
        self.held = socket.create_server(("127.0.0.1", 0), backlog=2048)

    def start_daemon(self) -> Daemon:
        """Start a daemon, possibly beside others."""
        sockets = {"http": self.held} if self.held else {}
        port = self.port if self.held else 0
        self.daemon = Daemon(
            self.project.folder,
            *("hello:Container", "--listen", f"http=tcp://127.0.0.1:{port}"),
            *("--workers", str(WORKERS), "--loop", self.form.loop),
            *("--drain-idle", str(self.window), "--graceful-timeout", f"{GRACE:.0f}"),
            *self.options,
            command=activated(sockets) if sockets else API_HOUR,
            pass_fds=descriptors(sockets),
            variables={"CHAOS_LEDGER": str(self.project.ledger), **self.variables},
        )
        self.daemons.append(self.daemon)
        return self.daemon

    def start_load(self, profile: Profile) -> Load:
        """Start clients on the daemon's port."""
        load = Load(str(len(self.loads)), self.port, profile, self.window)
        load.start()
        self.loads.append(load)
        return load

    def calm(self) -> None:
        """Wait until the first load has received ``form.calm`` more responses."""
        load = self.loads[0]
        goal = load.answered + self.form.calm
        until(lambda: load.answered >= goal, f"no {self.form.calm} more responses")

    @property
    def port(self) -> int:
        """Return the port of the listener."""
        return int(self.held.getsockname()[1]) if self.held else self.daemon.port()

    def connect(self) -> Connection:
        """Open a connection."""
        return Connection(self.port)

    def connect_to(self, worker: int) -> Connection:
        """Open connections until this worker has accepted one; close the others."""
        others: list[Connection] = []
        try:
            while len(others) < MAX_CONNECTIONS:
                connection = self.connect()
                if self._owner(connection) == worker:
                    return connection
                others.append(connection)
        finally:
            for connection in others:
                connection.close()
        raise AssertionError(f"worker {worker} accepted none of {MAX_CONNECTIONS} connections")

    def _owner(self, connection: Connection) -> int:
        owner = until(lambda: connection.owner(self.daemon.workers()), "no worker accepted")
        return owner or 0

    def wait_begun(self, ident: str) -> None:
        """Wait until the handler of this request runs, by the ledger."""
        until(lambda: self.project.notes()["+" + ident], f"request {ident} did not arrive")

    def ready_workers(self) -> list[int]:
        """Return the living workers that have become ready; some may drain by now."""
        ready = [int(pid) for pid in re.findall(r"Worker ready \(pid: (\d+)\)", self.daemon.output)]
        return [pid for pid in self.daemon.workers() if pid in ready]

    def wait_workers(self, count: int) -> None:
        """Wait until the daemon has that many workers."""
        until(lambda: len(self.daemon.workers()) == count, f"not {count} workers")

    def reload(self) -> None:
        """Send HUP and wait until new workers have replaced all old ones."""
        mark, old = self.daemon.mark(), self.daemon.workers()
        self.daemon.send(signal.SIGHUP)
        self.daemon.ready(WORKERS, after=mark)
        self.wait_gone(old)

    def wait_gone(self, pids: list[int]) -> None:
        """Wait until these processes of the daemon's session have exited."""
        leader = self.daemon.pid
        until(lambda: not set(pids) & set(session(leader)), f"some of {pids} did not exit")

    def assert_last(
        self, response: Response, workers: list[int], of: str = "the last response"
    ) -> None:
        """Fail unless one of these workers drains: 200, and it announces the close."""
        good = response.status == 200 and response.worker in workers and response.closes
        assert good, f"{of}: {response.status} {response.headers}"

    def fewest_workers(self) -> int:
        """Return the minimum of ready workers since all have been ready, by the log."""
        steps = [
            ("Worker ready" in line) - ("left: exit code 0" in line) for line in self.daemon.lines
        ]
        counts = list(accumulate(steps))
        return min(counts[counts.index(WORKERS) :])

    def errors(self, mark: int) -> list[str]:
        """Return the errors logged since ``mark``."""
        return [
            line for line in self.daemon.lines[mark:] if re.search(r"\[(ERROR|CRITICAL)\]", line)
        ]

    def note(self, text: str) -> None:
        """Keep a measurement for the table."""
        self.notes.append(text)

    def stop_loads(self) -> None:
        """Let every client receive its last response."""
        for load in self.loads:
            load.stop()

    def finish(self) -> None:
        """Stop what still runs; fail unless every daemon exits with 0 and leaves no process."""
        self.stop_loads()
        if self.successor:
            os.kill(self.successor, signal.SIGTERM)
            self.wait_gone([self.successor])
        for daemon in self.daemons:
            if not daemon.has_ended:
                assert daemon.stop() == 0, "the exit code after TERM is not 0"
            assert not session(daemon.pid), "a process was left behind"
