"""A running contender: started in a session of its own, stopped with all its processes."""

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Self

from benchmarks import processes
from benchmarks.installation import Installation

POLL_INTERVAL = 0.02  # seconds
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
        return self._process.pid

    def __enter__(self) -> Self:
        if not _free(self.port):
            raise NotServing(f"port {self.port} is in use: choose another with --port")
        self._log = tempfile.TemporaryFile()
        self._process = subprocess.Popen(  # noqa: S603
            self._command,
            cwd=self._directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        try:
            self._wait_until_listening()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop the first process by its signal, what it leaves by TERM, what remains by KILL."""
        self._process.send_signal(self._stop)
        _until(self._ended, STOP_TIMEOUT)
        if not _until(lambda: not processes.session(self.pid), ORPHAN_GRACE):
            self._signal(signal.SIGTERM)
            _until(lambda: not processes.session(self.pid), STOP_TIMEOUT)
        self._signal(signal.SIGKILL)
        self._process.wait()
        self._log.close()

    def log(self) -> str:
        """Return the last lines of its output."""
        self._log.seek(0)
        return "\n".join(self._log.read().decode(errors="replace").splitlines()[-LOG_LINES:])

    def _wait_until_listening(self) -> None:
        _until(lambda: self._ended() or not _free(self.port), self._patience)
        if self._ended() or _free(self.port):
            raise NotServing(f"it does not listen on its port:\n{self.log()}")

    def _ended(self) -> bool:
        return self._process.poll() is not None

    def _signal(self, number: int) -> None:
        for pid in processes.session(self.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, number)


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait for a condition; return whether it became true in time."""
    deadline = time.monotonic() + seconds
    while not (true := condition()) and time.monotonic() < deadline:
        time.sleep(POLL_INTERVAL)
    return true


def _free(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) != 0
