"""What is known of a dead worker: how it ended and, if it was aborted, its threads' stacks."""

import faulthandler
import logging
import os
import re
import signal
import tempfile
from typing import BinaryIO

from api_hour.worker.importer import innermost

MAX_STACKS = 20_000  # bytes that go into the log
logger = logging.getLogger("api_hour.worker")


class CrashReport:
    """An unnamed file that a dying worker writes its stacks to, and the master reads.

    The file is opened before the fork, so both processes have it, and nothing has to be sent by a
    worker whose loop is blocked. On Linux it is memory: a worker starts without any folder that
    can be written. Elsewhere it lies in ``folder``.
    """

    def __init__(self, folder: str | None = None) -> None:
        self._file: BinaryIO
        if hasattr(os, "memfd_create"):
            self._file = os.fdopen(os.memfd_create("api_hour-crash-report"), "w+b")
        else:
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - lives as long as we do

    def collect(self) -> None:
        """Write all stacks on SIGABRT and on a crash; works in a blocked loop, too."""
        faulthandler.enable(self._file, all_threads=True)

    def describe(self, status: int, killed_for: str, project: str) -> str:
        """Return the status of ``os.waitpid`` in words, and log the stacks if there are any.

        For a worker that was aborted, the words end with its place in the code below ``project``.
        """
        end = in_words(status)
        if os.WIFEXITED(status):
            return end
        if killed_for:
            end = f"it {killed_for}"
        if stacks := self._stacks():
            record = logger.makeRecord(
                logger.name,
                logging.WARNING,
                __file__,
                0,
                "Where the worker's threads stood",
                (),
                None,
            )
            record.stack_info = stacks
            logger.handle(record)
            # The thread that the signal met, which is the main one.
            current = re.search(r"^Current thread .*?(?=\n\n|\Z)", stacks, re.MULTILINE | re.DOTALL)
            place = innermost(current[0], project) if current else ""
            end += place and f", at {place}"
        return end

    def _stacks(self) -> str:
        self._file.seek(0)
        return self._file.read(MAX_STACKS).decode(errors="replace").strip()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def in_words(status: int) -> str:
    """Return a status of ``os.waitpid`` in words."""
    if os.WIFEXITED(status):
        return f"exit code {os.WEXITSTATUS(status)}"
    number = os.WTERMSIG(status)
    known = number in {member.value for member in signal.Signals}
    name = signal.Signals(number).name if known else str(number)  # a real-time signal has none
    return f"signal {name}" + (": out of memory?" if name == "SIGKILL" else "")
