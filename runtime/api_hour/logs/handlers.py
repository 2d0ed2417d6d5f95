"""The log handler: it writes what a stream takes at once, so a log never blocks the daemon."""

import logging
import os
import socket
import stat
from collections.abc import Callable
from functools import cache
from typing import Any

from api_hour.logs.formatters import TextFormatter

PIPE_BUF = 4096  # bytes that a pipe takes whole or not at all, so that lines do not mix


class NonBlockingHandler(logging.StreamHandler[Any]):
    """Writes what a stream takes at once, and counts the records that it does not take.

    A pipe or a terminal that nobody reads would otherwise block the event loop, or the master.
    """

    def __init__(self, stream: Any = None) -> None:
        super().__init__(stream)
        self.setFormatter(TextFormatter())
        descriptor = self.stream.fileno()
        status = os.fstat(descriptor)
        self._write = _writer(descriptor, status.st_dev, status.st_ino)
        self._lost = 0  # records since the last one that was written

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, after a line that says how many were lost before it."""
        try:
            if self._lost:
                message = f"{self._lost} log records were lost: the log could not be written"
                self._put(logging.LogRecord(__name__, logging.WARNING, "", 0, message, None, None))
                self._lost = 0
            self._put(record)
        except OSError:
            self._lost += 1
        except Exception:
            self.handleError(record)

    def _put(self, record: logging.LogRecord) -> None:
        data = (self.format(record) + self.terminator).encode(errors="backslashreplace")
        if len(data) <= PIPE_BUF:
            self._write(data)
            return
        for start in range(0, len(data), PIPE_BUF):
            self._write(data[start : start + PIPE_BUF])


@cache
def _writer(descriptor: int, _device: int, _inode: int) -> Callable[[bytes], int]:
    """Return a function that writes to the file of ``descriptor``, or raises BlockingIOError.

    Cached by the file, so that a new configuration of the same stream opens nothing.
    """
    kind = os.fstat(descriptor).st_mode
    if stat.S_ISSOCK(kind):  # systemd's journal
        sock = socket.socket(fileno=os.dup(descriptor))
        return lambda data: sock.send(data, socket.MSG_DONTWAIT)
    if not (stat.S_ISFIFO(kind) or stat.S_ISCHR(kind)):
        return lambda data: os.write(descriptor, data)
    # O_NONBLOCK belongs to the open file description, which other processes share (a terminal's
    # shell, say). So the file is opened once more.
    try:
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        own = os.open(f"/proc/self/fd/{descriptor}", flags)
    except OSError:
        own = descriptor
    return lambda data: os.write(own, data)
