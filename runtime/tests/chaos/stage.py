"""Where a fault acts: a running daemon with its project and its load; and what faults wait for."""

import os
import re
import signal
import socket
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import Self

from testkit.http import Connection, Response
from testkit.ledger import LedgerProject
from testkit.load import Load, Profile
from testkit.processes import Daemon, session
from testkit.systemd import activated, descriptors
from testkit.waiting import until

WORKERS = 2
TRIES = 500  # connections until one worker of two has surely had its turn
STARTING = (
    r"\[(\d+)\] \[INFO\] \[gunicorn\.error\] Starting API-Hour"  # a master, with its process id
)
GRACE = 20.0  # seconds of graceful_timeout


@dataclass(frozen=True)
class Form:
    """Say how long a scenario takes: short in the tests, long by hand."""

    window: float  # seconds of drain_idle
    calm: int  # answers to wait for between two steps
    loop: str = "auto"


SHORT = Form(window=5.0, calm=100)
FULL = Form(window=5.0, calm=1500)


class Stage:
    """Hold one scenario's daemon, project, load and notes; leave nothing behind."""

    daemon: Daemon

    def __init__(self, folder: Path, form: Form) -> None:
        self.form = form
        self.window = form.window
        self.options: tuple[str, ...] = ()
        self.folder = folder
        self.project = LedgerProject(folder / "project", folder / "ledger")
        self.daemons: list[Daemon] = []
        self.loads: list[Load] = []
        self.notes: list[str] = []
        self.held: socket.socket | None = None
        self.heir = 0  # the master that USR2 has started, once it is to end instead of the first

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for daemon in self.daemons:
            daemon.kill()
        if self.held is not None:
            self.held.close()

    def hold(self) -> None:
        """Open the listening socket here: every later launch is handed it."""
        self.held = socket.create_server(("127.0.0.1", 0), backlog=2048)

    def launch(self, *, folder: Path | None = None) -> Daemon:
        """Start a daemon, another one if there is one already."""
        arguments = ("hello:Container", *self._options())
        place = folder or self.project.folder
        variables = {"CHAOS_LEDGER": str(self.project.ledger)}
        if self.held is None:
            free = ("--listen", "http=tcp://127.0.0.1:0")
            self.daemon = Daemon(place, *arguments, *free, variables=variables)
        else:
            port = self.held.getsockname()[1]
            arguments = (*arguments, "--listen", f"http=tcp://127.0.0.1:{port}")
            sockets = {"http": self.held}
            self.daemon = Daemon(
                place,
                *arguments,
                command=activated(sockets),
                pass_fds=descriptors(sockets),
                variables=variables,
            )
        self.daemons.append(self.daemon)
        return self.daemon

    def _options(self) -> tuple[str, ...]:
        return (
            *("--workers", str(WORKERS), "--loop", self.form.loop),
            *("--drain-idle", str(self.window), "--graceful-timeout", f"{GRACE:.0f}"),
            *self.options,
        )

    def run(self, profile: Profile, *, port: int = 0) -> Load:
        """Let clients begin on the daemon's port."""
        port = port or self.port
        load = Load(str(len(self.loads)), port, profile, self.window)
        load.start()
        self.loads.append(load)
        return load

    def calm(self) -> None:
        """Wait until the load has had so many more answers: the service is well."""
        load = self.loads[0]
        goal = load.answered + self.form.calm
        until(lambda: load.answered >= goal, f"no {self.form.calm} more answers")

    def peer(self) -> Connection:
        """Connect."""
        return Connection(self.port)

    @property
    def port(self) -> int:
        """Return the port of the listener."""
        return int(self.held.getsockname()[1]) if self.held else self.daemon.port()

    def peer_of(self, worker: int) -> Connection:
        """Connect until this worker has accepted the connection."""
        others: list[Connection] = []
        try:
            while len(others) < TRIES:
                peer = self.peer()
                if self._owner(peer) == worker:
                    return peer
                others.append(peer)
        finally:
            for peer in others:
                peer.close()
        raise AssertionError(f"worker {worker} accepted none of {TRIES} connections")

    def _owner(self, peer: Connection) -> int:
        return until(lambda: peer.owner(self.daemon.workers()), "nobody accepted") or 0

    def begun(self, ident: str) -> None:
        """Wait until the ledger says that this request has reached its handler."""
        until(lambda: self.project.notes()["+" + ident], f"request {ident} did not arrive")

    def ready_workers(self) -> list[int]:
        """Return the workers that have become ready; some may drain by now."""
        ready = [int(pid) for pid in re.findall(r"Worker ready \(pid: (\d+)\)", self.daemon.output)]
        return [pid for pid in self.daemon.workers() if pid in ready]

    def shrunk(self, count: int) -> None:
        """Wait until so many workers are left."""
        until(lambda: len(self.daemon.workers()) == count, "no worker left")

    def reload(self) -> None:
        """Send HUP and wait until new workers have taken over from all the old ones."""
        mark, old = self.daemon.mark(), self.daemon.workers()
        self.daemon.send(signal.SIGHUP)
        self.daemon.ready(WORKERS, after=mark)
        self.gone(old)

    def gone(self, pids: list[int]) -> None:
        """Wait until these processes of the session have ended."""
        leader = self.daemon.process.pid
        until(lambda: not set(pids) & set(session(leader)), f"some of {pids} did not leave")

    def last_word(self, answer: Response, workers: list[int], of: str = "an answer") -> None:
        """Fail unless a draining worker of these gave a good answer that ends the connection."""
        good = answer.status == 200 and answer.worker in workers and answer.closes
        assert good, f"{of}: {answer.status} {answer.headers}"

    def fewest(self) -> int:
        """Return how few workers there were at any time since the first start, by the log."""
        steps = [
            ("Worker ready" in line) - ("left: exit code 0" in line) for line in self.daemon.lines
        ]
        counts = list(accumulate(steps))
        return min(counts[counts.index(WORKERS) :])

    def errors(self, mark: int) -> list[str]:
        """Return what was logged as an error since ``mark``."""
        return [
            line for line in self.daemon.lines[mark:] if re.search(r"\[(ERROR|CRITICAL)\]", line)
        ]

    def note(self, text: str) -> None:
        """Keep a measurement for the table."""
        self.notes.append(text)

    def end_loads(self) -> None:
        """Let every client have its last answer."""
        for load in self.loads:
            load.stop()

    def finish(self) -> None:
        """Stop what still runs; fails unless every daemon ends in order and leaves nothing."""
        self.end_loads()
        if self.heir:
            os.kill(self.heir, signal.SIGTERM)
            self.gone([self.heir])
        for daemon in self.daemons:
            if daemon.process.poll() is None:
                assert daemon.stop() == 0, "the exit code after TERM is not 0"
            assert not session(daemon.process.pid), "a process was left behind"
