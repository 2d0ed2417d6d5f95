"""What is known of a dead worker: how it ended and, if it was aborted, its threads' stacks."""

import faulthandler
import logging
import os
import signal
import tempfile

MAX_STACKS = 20_000  # bytes that go into the log
logger = logging.getLogger(__name__)


class CrashReport:
    """An unnamed file that a dying worker writes its stacks to, and the master reads.

    The file is opened before the fork, so both processes have it, and nothing has to be sent by a
    worker whose loop is blocked.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the worker

    def collect(self) -> None:
        """Write all stacks on SIGABRT and on a crash; works in a blocked loop, too."""
        faulthandler.enable(self._file, all_threads=True)

    def describe(self, status: int, killed_for: str) -> str:
        """Return the status of ``os.waitpid`` in words, and log the stacks if there are any."""
        if os.WIFEXITED(status):
            return f"exit code {os.WEXITSTATUS(status)}"
        name = signal.Signals(os.WTERMSIG(status)).name
        end = f"it {killed_for}" if killed_for else f"signal {name}"
        if name == "SIGKILL" and not killed_for:
            end += ": out of memory?"
        self._file.seek(0)
        if stacks := self._file.read(MAX_STACKS).decode(errors="replace").strip():
            record = logger.makeRecord(
                __name__, logging.WARNING, __file__, 0, "Where the worker's threads stood", (), None
            )
            record.stack_info = stacks
            logger.handle(record)
        return end

    def close(self) -> None:
        """Close the file."""
        self._file.close()
