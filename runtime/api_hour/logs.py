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
from datetime import UTC, datetime
from functools import cache
from typing import Any

from api_hour import request_id

PIECE = 4096  # bytes, PIPE_BUF: a pipe takes them whole or not at all
ACCESS = '%a "%r" %s %b %Tf "%{Referer}i" "%{User-Agent}i"'  # aiohttp's signs; %Tf is seconds
# What aiohttp's access logger calls its values, and what JSON calls them.
NAMES = {"remote_address": "remote", "response_status": "status", "response_size": "bytes"}
NO_VALUE = "-"  # as it writes it
OWN = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}  # no extra of anybody


class Text(logging.Formatter):
    """Write a record for people: one line, and the lines of a traceback indented below it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return time, process, level, logger, the request's id if there is one, and message."""
        now = time.localtime(record.created)
        when = time.strftime(f"%Y-%m-%d %H:%M:%S.{int(record.msecs):03d} %z", now)
        parts = [when, record.process, record.levelname, record.name, request_id.current.get()]
        line = "".join(f"[{part}] " for part in parts if part) + _message(record)
        below = [f"    {escape(one)}" for one in _trace(record).split("\n") if one]
        return "\n".join([escape(line), *below])


class JSON(logging.Formatter):
    """Write a record for machines: a JSON object a line, in ASCII, with the fields of ``extra``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return what ``Text`` tells, each in a field of its own; what is empty is left out."""
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "level": record.levelname,
            "logger": record.name,
            "pid": record.process,
            "request_id": request_id.current.get(),
            "message": _message(record),
            "exception": _trace(record),
        }
        line = {name: value for name, value in fields.items() if value}
        extra = {name: value for name, value in vars(record).items() if name not in OWN}
        if record.name == "gunicorn.access":
            extra = _renamed(extra)
        for name, value in extra.items():
            line[f"extra.{name}" if name in fields else name] = value
        try:
            return _encode(line)
        except (TypeError, ValueError, RecursionError):  # a key that is no text, NaN, a circle
            plain = {name: one for name, one in line.items() if isinstance(one, str | int)}
            return _encode({_shown(name): _shown(one) for name, one in line.items()} | plain)


class Unblocked(logging.StreamHandler[Any]):
    """Write what a stream takes at once, and count the records it does not take.

    A pipe or a terminal that nobody reads would otherwise stop the event loop, or the master.
    """

    def __init__(self, stream: Any = None) -> None:
        super().__init__(stream)
        self.setFormatter(Text())
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
        for start in range(0, len(data), PIECE):
            self._write(data[start : start + PIECE])


def escape(text: str) -> str:
    """Return ``text`` on one line, with all that cannot be printed written as Python writes it."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # an argument's own __str__ may raise anything
        why = f"{type(error).__name__}: {_shown(error)}"
        return f"{_shown(record.msg)} with {_shown(record.args)} cannot be written: {why}"


def _trace(record: logging.LogRecord) -> str:
    """Return traceback and stack; what the exceptions say is on one line each."""
    error = record.exc_info[1] if record.exc_info else None
    text = "".join(traceback.format_exception(error)) if error else record.exc_text or ""
    while error is not None:
        said = _shown(error)
        text = text.replace(f": {said}\n", f": {escape(said)}\n")
        error = error.__cause__ or error.__context__
    return "\n".join(filter(None, [text.rstrip("\n"), record.stack_info]))


def _renamed(extra: dict[str, Any]) -> dict[str, Any]:
    """Return what aiohttp's access logger tells as the fields that machines ask for."""
    fields = {NAMES.get(name, name): value for name, value in extra.items()}
    if "first_request_line" in extra:
        fields["method"], _, target = fields.pop("first_request_line").partition(" ")
        fields["path"] = target.rpartition(" ")[0]
    if "request_time_frac" in extra:
        fields["seconds"] = float(fields.pop("request_time_frac"))
    for name, value in fields.pop("request_header", {}).items():
        fields[name.lower().replace("-", "_")] = value
    return {name: value for name, value in fields.items() if value != NO_VALUE}


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
