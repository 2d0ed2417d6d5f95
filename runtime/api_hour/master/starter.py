"""``--daemon``: the command ends when its daemon is ready, or has failed, and says so."""

import os
import signal
import sys
from contextlib import suppress

from api_hour.logs.formatters import escape

READY = "ready"


class Starter:
    """The daemon's end of a pipe to the command that has started it, and waits."""

    def __init__(self) -> None:
        """Fork, and return in the child; the parent exits with what the child tells."""
        ours, self._pipe = os.pipe()
        if os.fork() == 0:
            os.close(ours)
            return
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # the daemon goes on
        os.close(self._pipe)
        with open(ours, encoding="utf-8", errors="replace") as pipe:
            told = pipe.read() or "it ended before it was ready; its log may say why"
        failed = f"api_hour: error: the daemon has not started: {escape(told)}"
        sys.exit(0 if told == READY else failed)

    def tell(self, text: str) -> None:
        """Let the command end; does nothing the second time."""
        if self._pipe >= 0:
            with suppress(OSError):  # it was interrupted
                os.write(self._pipe, text.encode(errors="replace"))
            self.close()

    def close(self) -> None:
        """Close the pipe, in a child that has inherited it."""
        if self._pipe >= 0:
            os.close(self._pipe)
        self._pipe = -1
