"""A running contender: started in a session of its own, stopped with all its processes."""

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from benchmarks.installation import Installation
from testkit.ports import accepts
from testkit.processes import Program, session
from testkit.waiting import seconds_until

STOP_TIMEOUT = 60.0  # seconds after TERM; under callgrind every process writes its counts
ORPHAN_GRACE = 3.0  # seconds that processes may outlive their parent
LOG_LINES = 15  # the last ones, for an error message
INHERITED = ("HOME", "LANG", "LC_ALL", "PATH", "TMPDIR", "USER")  # environment variables


class NotServing(Exception):
    """A contender did not start, or stopped serving."""


class Server:
    """A contender that runs until the end of a ``with`` block.

    ``prefix`` is put before its command. Entering raises NotServing, with the last lines of the
    output, if nothing listens on ``port`` within ``patience`` seconds.
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
        declared = {name: filled([value])[0] for name, value in declaration.environment.items()}
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        self._environment = {**inherited, "DATABASE_URL": database, **declared}
        self._environment |= environment or {}
        self._stop = signal.Signals[f"SIG{declaration.stop}"]
        self._patience = patience

    @property
    def pid(self) -> int:
        """The id of the first process, which is also that of the session."""
        return self._program.pid

    def __enter__(self) -> Self:
        if accepts(self.port):
            raise NotServing(f"port {self.port} is in use: choose another with --port")
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
        """Stop the first process by its signal, what it leaves by TERM, what remains by KILL."""
        self._program.send(self._stop)
        seconds_until(lambda: self._program.has_ended, STOP_TIMEOUT)
        if seconds_until(self._left_nothing, ORPHAN_GRACE) is None:
            self._program.send_all(signal.SIGTERM)
            seconds_until(self._left_nothing, STOP_TIMEOUT)
        self._program.kill()

    def log(self) -> str:
        """Return the last lines of its output."""
        return "\n".join(self._program.lines[-LOG_LINES:])

    def _left_nothing(self) -> bool:
        return not session(self.pid)
