"""Logs: a record becomes a line, which nothing that a client sent can forge or garble.

Writing it never makes the daemon wait. Knows neither HTTP nor configuration (``logconfig.py``).
"""

import json
import logging
import os
import socket
import stat
import time
import traceback
from functools import cache, lru_cache
from typing import Any

from api_hour.logs import request_id

PIECE = 4096  # bytes, PIPE_BUF: a pipe takes them whole or not at all
OWN = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}  # no extra of anybody


class TextFormatter(logging.Formatter):
    """Write a record for people: one line, and the lines of a traceback indented below it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return time, process, level, logger, the request's id if there is one, and message."""
        date, zone = _second(int(record.created))
        identity = request_id.current.get()
        line = (
            f"[{date}.{int(record.msecs):03d} {zone}] [{record.process}] [{record.levelname}] "
            f"[{record.name}] {identity and f'[{identity}] '}{_message(record)}"
        )
        trace = _trace(record)
        if not trace:
            return escape(line)
        below = [f"    {escape(one)}" for one in trace.split("\n") if one]
        return "\n".join([escape(line), *below])


class JSONFormatter(logging.Formatter):
    """Write a record for machines: a JSON object a line, in ASCII, with the fields of ``extra``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the same as ``TextFormatter``, a field for each part; empty parts are left out."""
        micro = int(record.created % 1 * 1_000_000)
        fields = {
            "time": f"{_utc(int(record.created))}.{micro:06d}+00:00",
            "level": record.levelname,
            "logger": record.name,
            "pid": record.process,
            "request_id": request_id.current.get(),
            "message": _message(record),
            "exception": _trace(record),
        }
        line = {name: value for name, value in fields.items() if value}
        for name, value in vars(record).items():
            if name not in OWN:
                line[f"extra.{name}" if name in fields else name] = value
        try:
            return _encode(line)
        except (TypeError, ValueError, RecursionError):  # a key that is no text, NaN, a circle
            plain = {name: one for name, one in line.items() if isinstance(one, str | int)}
            return _encode({_shown(name): _shown(one) for name, one in line.items()} | plain)


class NonBlockingHandler(logging.StreamHandler[Any]):
    """Write what a stream takes at once, and count the records it does not take.

    A pipe or a terminal that nobody reads would otherwise stop the event loop, or the master.
    """

    def __init__(self, stream: Any = None) -> None:
        super().__init__(stream)
        self.setFormatter(TextFormatter())
        descriptor = self.stream.fileno()
        status = os.fstat(descriptor)
        self._write = _writer(descriptor, status.st_dev, status.st_ino)
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, after how many have been lost since the last one."""
        try:
            if self._lost:
                told = f"{self._lost} log records were lost: the log could not be written"
                self._put(logging.LogRecord(__name__, logging.WARNING, "", 0, told, None, None))
                self._lost = 0
            self._put(record)
        except OSError:
            self._lost += 1
        except Exception:
            self.handleError(record)

    def _put(self, record: logging.LogRecord) -> None:
        data = (self.format(record) + self.terminator).encode(errors="backslashreplace")
        if len(data) <= PIECE:
            self._write(data)
            return
        for start in range(0, len(data), PIECE):
            self._write(data[start : start + PIECE])


def escape(text: str) -> str:
    """Return ``text`` on one line, with all that cannot be printed written as Python writes it."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


@lru_cache(maxsize=2)
def _second(second: int) -> tuple[str, str]:
    """Return a time since the epoch as people write it, and its time zone."""
    when = time.localtime(second)
    return time.strftime("%Y-%m-%d %H:%M:%S", when), time.strftime("%z", when)


@lru_cache(maxsize=2)
def _utc(second: int) -> str:
    """Return a time since the epoch in UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # an argument's own __str__ may raise anything
        why = f"{type(error).__name__}: {_shown(error)}"
        return f"{_shown(record.msg)} with {_shown(record.args)} cannot be written: {why}"


def _trace(record: logging.LogRecord) -> str:
    """Return traceback and stack; what the exceptions say is on one line each."""
    if not (record.exc_info or record.exc_text or record.stack_info):
        return ""
    error = record.exc_info[1] if record.exc_info else None
    text = "".join(traceback.format_exception(error)) if error else record.exc_text or ""
    while error is not None:
        said = _shown(error)
        text = text.replace(f": {said}\n", f": {escape(said)}\n")
        error = error.__cause__ or error.__context__
    return "\n".join(filter(None, [text.rstrip("\n"), record.stack_info]))


def _shown(value: object) -> str:
    try:
        return str(value)
    except Exception as error:  # so that a log never fails on what it is given
        return f"<{type(value).__name__} that raises {type(error).__name__}>"


# In ASCII, so that neither a control character nor half of a surrogate pair gets through.
_encode = json.JSONEncoder(default=_shown, allow_nan=False, separators=(",", ":")).encode


@cache
def _writer(descriptor: int, _device: int, _inode: int) -> Any:
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
