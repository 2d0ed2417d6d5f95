"""What a worker leaves behind: how it ended and, when it was aborted, where every thread stood."""

import faulthandler
import os
import signal
import tempfile

STACKS = 20_000  # bytes that go into the log


class Evidence:
    """Hold a file without a name that a worker's last stacks are written to."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the worker

    def collect(self) -> None:
        """Write the stacks of all threads on SIGABRT and on a crash, also in a blocked loop."""
        faulthandler.enable(self._file, all_threads=True)

    def describe(self, status: int, killed_for: str) -> str:
        """Say in words what ``os.waitpid`` returned, with the stacks where there are some."""
        if os.WIFEXITED(status):
            return f"exit code {os.WEXITSTATUS(status)}"
        name = signal.Signals(os.WTERMSIG(status)).name
        end = f"it {killed_for}" if killed_for else f"signal {name}"
        if name == "SIGKILL" and not killed_for:
            end += ": out of memory?"
        self._file.seek(0)
        stacks = self._file.read(STACKS).decode(errors="replace").strip()
        return f"{end}\n{stacks}" if stacks else end

    def close(self) -> None:
        """Close the file."""
        self._file.close()
