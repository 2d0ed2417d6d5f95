"""Where log records go, and that writing one never makes the daemon wait."""

import logging
import os
import socket
import stat
from typing import Any

PIECE = 4096  # bytes, PIPE_BUF: a pipe takes them whole or not at all


class Unblocked(logging.StreamHandler[Any]):
    """Write what a stream takes at once, and count the records it does not take.

    A pipe or a terminal that nobody reads would otherwise stop the event loop, or the master.
    """

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._write = _writer(stream.fileno())
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, after how many have been lost since the last one."""
        try:
            if self._lost:
                self._put(f"{self._lost} log records were lost: the log could not be written")
                self._lost = 0
            self._put(self.format(record))
        except (BlockingIOError, BrokenPipeError):
            self._lost += 1
        except Exception:
            self.handleError(record)

    def _put(self, line: str) -> None:
        data = (line + self.terminator).encode(errors="backslashreplace")
        for start in range(0, len(data), PIECE):
            self._write(data[start : start + PIECE])


def unblock(*loggers: logging.Logger) -> None:
    """Replace stream handlers by such as never wait."""
    for logger in loggers:
        for handler in list(logger.handlers):
            if type(handler) is logging.StreamHandler and hasattr(handler.stream, "fileno"):
                logger.removeHandler(handler)
                logger.addHandler(_unblocked(handler))


def _unblocked(handler: "logging.StreamHandler[Any]") -> Unblocked:
    new = Unblocked(handler.stream)
    new.setFormatter(handler.formatter)
    new.setLevel(handler.level)
    new.__dict__["_gunicorn"] = getattr(handler, "_gunicorn", False)  # how Gunicorn finds its own
    return new


def join(daemon: logging.Logger) -> None:
    """Give the root logger the handlers of ``daemon``, unless it has been configured already."""
    root = logging.getLogger()
    if not root.handlers:
        root.handlers = list(daemon.handlers)
        root.setLevel(daemon.getEffectiveLevel())


def _writer(descriptor: int) -> Any:
    """Return a function that writes bytes to what ``descriptor`` is, or raises BlockingIOError."""
    kind = os.fstat(descriptor).st_mode
    if stat.S_ISSOCK(kind):  # systemd's journal
        sock = socket.socket(fileno=os.dup(descriptor))
        return lambda data: sock.send(data, socket.MSG_DONTWAIT)
    if not (stat.S_ISFIFO(kind) or stat.S_ISCHR(kind)):
        return lambda data: os.write(descriptor, data)
    try:  # O_NONBLOCK belongs to the open file, which others share: open it once more
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        own = os.open(f"/proc/self/fd/{descriptor}", flags)
    except OSError:
        own = descriptor
    return lambda data: os.write(own, data)
