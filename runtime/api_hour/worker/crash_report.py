"""What a worker leaves behind: how it ended and, when it was aborted, where every thread stood."""

import faulthandler
import logging
import os
import signal
import tempfile

STACKS = 20_000  # bytes that go into the log
logger = logging.getLogger(__name__)


class Evidence:
    """Hold a file without a name that a worker's last stacks are written to."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the worker

    def collect(self) -> None:
        """Write the stacks of all threads on SIGABRT and on a crash, also in a blocked loop."""
        faulthandler.enable(self._file, all_threads=True)

    def describe(self, status: int, killed_for: str) -> str:
        """Say in words what ``os.waitpid`` returned, and log the stacks where there are some."""
        if os.WIFEXITED(status):
            return f"exit code {os.WEXITSTATUS(status)}"
        name = signal.Signals(os.WTERMSIG(status)).name
        end = f"it {killed_for}" if killed_for else f"signal {name}"
        if name == "SIGKILL" and not killed_for:
            end += ": out of memory?"
        self._file.seek(0)
        if stacks := self._file.read(STACKS).decode(errors="replace").strip():
            record = logger.makeRecord(
                __name__, logging.WARNING, __file__, 0, "Where the worker's threads stood", (), None
            )
            record.stack_info = stacks
            logger.handle(record)
        return end

    def close(self) -> None:
        """Close the file."""
        self._file.close()
