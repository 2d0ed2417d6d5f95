"""A contender as it serves: started in a session of its own, ended with all its processes."""

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from benchmarks.installation import Installation
from testkit.ports import accepts
from testkit.processes import Program, session
from testkit.waiting import seconds_until

STOPPING = 60.0  # seconds to end after TERM; under callgrind every process writes its counts
ORPHANED = 3.0  # seconds that processes may outlive the one that started them
LOG = 15  # last lines of what it wrote, for an error
KEPT = ("HOME", "LANG", "LC_ALL", "PATH", "TMPDIR", "USER")  # of our environment


class NotServing(Exception):
    """A contender did not start, or did not last."""


class Server:
    """Run a contender until the end of the ``with``.

    ``prefix`` stands before its command, ``patience`` is in seconds. Raises NotServing, with the
    last lines of its output, when nothing listens on ``port`` by then.
    """

    def __init__(
        self,
        installation: Installation,
        port: int,
        *,
        database: str = "",
        prefix: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        patience: float = 60.0,
    ) -> None:
        declaration = installation.contender.declaration
        filled = installation.fill(port)
        self.port = port
        self.name = installation.contender.name
        self.command = declaration.command
        self._command = [*prefix, *filled(declaration.command)]
        self._directory = filled([declaration.directory or str(installation.contender.folder)])[0]
        own = {name: filled([value])[0] for name, value in declaration.environment.items()}
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        self._environment = {**kept, "DATABASE_URL": database, **own, **(environment or {})}
        self._stop = signal.Signals[f"SIG{declaration.stop}"]
        self._patience = patience

    @property
    def pid(self) -> int:
        """Return the id of the first process, and of the session."""
        return self._program.pid

    def __enter__(self) -> Self:
        if accepts(self.port):
            raise NotServing(f"port {self.port} is in use: name another with --port")
        self._program = Program(
            *self._command, folder=Path(self._directory), environment=self._environment
        )
        try:
            seconds_until(lambda: self._program.has_ended or accepts(self.port), self._patience)
            serves = not self._program.has_ended and accepts(self.port)
        except BaseException:
            self.stop()
            raise
        if not serves:
            self.stop()  # its output is complete only now
            raise NotServing(f"it does not listen on its port:\n{self.log()}")
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the first process by its signal, what it leaves by TERM, what stays by KILL."""
        self._program.send(self._stop)
        seconds_until(lambda: self._program.has_ended, STOPPING)
        if seconds_until(self._left_nothing, ORPHANED) is None:
            self._program.send_all(signal.SIGTERM)
            seconds_until(self._left_nothing, STOPPING)
        self._program.kill()

    def log(self) -> str:
        """Return the last lines of its output."""
        return "\n".join(self._program.lines[-LOG:])

    def _left_nothing(self) -> bool:
        return not session(self.pid)
