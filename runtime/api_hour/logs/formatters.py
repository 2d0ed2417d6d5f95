"""Log formatters: a record becomes a line that nothing a client sent can forge or garble.

Knows neither HTTP nor the configuration of logs.
"""

import json
import logging
import time
import traceback
from functools import lru_cache
from itertools import islice

from api_hour.logs import request_id

# What every record has: any other attribute came by ``extra``.
STANDARD_ATTRIBUTES = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}

ESCAPED = "backslashreplace"  # half of a surrogate pair
CUT = b" [...] "  # instead of the middle of what was too long
MAX_CAUSES = 100  # whose messages are put on one line; "raise e from e" makes a circle of them


class _Formatter(logging.Formatter):
    """A formatter of one form, with the arguments that dictConfig gives to each ``class``."""

    def __init__(self, fmt: object = None, datefmt: object = None, style: str = "%") -> None:
        if fmt or datefmt or style != "%":
            raise ValueError("its lines have one form: leave out format, datefmt and style")
        super().__init__()


class TextFormatter(_Formatter):
    """Writes a record for people: one line, and the lines of a traceback indented below it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return time, process, level, logger, the request's id if there is one, and message."""
        date, zone = _local_time(int(record.created))
        identity = request_id.current.get()
        line = (
            f"[{date}.{int(record.msecs):03d} {zone}] [{record.process}] [{record.levelname}] "
            f"[{record.name}] {identity and f'[{identity}] '}{_message(record)}"
        )
        trace = _trace(record)
        if not trace:
            return escape(line)
        indented = [f"    {escape(part)}" for part in trace.split("\n") if part]
        return "\n".join([escape(line), *indented])


class JSONFormatter(_Formatter):
    """Writes a record for machines: one line of JSON, in ASCII, with the fields of ``extra``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the same as ``TextFormatter``, with a field for each part that is not empty."""
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
            if name not in STANDARD_ATTRIBUTES:
                line[f"extra.{name}" if name in fields else name] = value
        try:
            return _encode(line)
        except (TypeError, ValueError, RecursionError):  # a key that is not text, NaN, a cycle
            return _encode({_text(name): _encodable(value) for name, value in line.items()})


def escape(text: str) -> str:
    """Return ``text`` on one line; unprintable characters become Python's escapes."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else repr(character)[1:-1] for character in text
    )


def shorten(data: bytes, size: int) -> bytes:
    """Return lines of at most ``size`` bytes each, their ends included, whatever formatted them.

    What is longer is cut in its middle: a traceback says the most at both ends. One line of JSON
    stays valid, and gets the field ``cut``.
    """
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        return b"\n".join(_cut(line, size - 1) for line in data.split(b"\n"))
    limit = size
    while len(data) > size:
        limit = limit * 3 // 4  # bytes of each name and value, and the number of them
        kept = {
            _cut(name.encode(errors=ESCAPED), limit).decode(): _cut_value(value, limit)
            for name, value in islice(fields.items(), limit)
        }
        data = json.dumps({**kept, "cut": True}, separators=(",", ":")).encode() + b"\n"
    return data


@lru_cache(maxsize=2)
def _local_time(second: int) -> tuple[str, str]:
    """Return a time since the epoch as people write it, and its time zone."""
    local = time.localtime(second)
    return time.strftime("%Y-%m-%d %H:%M:%S", local), time.strftime("%z", local)


@lru_cache(maxsize=2)
def _utc(second: int) -> str:
    """Return a time since the epoch in UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def _cut_value(value: object, limit: int) -> object:
    text = (value if isinstance(value, str) else json.dumps(value)).encode(errors=ESCAPED)
    return value if len(text) <= limit else _cut(text, limit).decode()


def _cut(text: bytes, size: int) -> bytes:
    """Return UTF-8 of at most ``size`` bytes, or of the length of ``CUT``."""
    if len(text) <= size:
        return text
    half = max(size - len(CUT), 0) // 2
    first, last = text[:half], text[len(text) - half :]
    return CUT.join(part.decode(errors="ignore").encode() for part in (first, last))


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # an argument's own __str__ may raise anything
        cause = f"{type(error).__name__}: {_text(error)}"
        return f"{_text(record.msg)} with {_text(record.args)} cannot be written: {cause}"


def _trace(record: logging.LogRecord) -> str:
    """Return traceback and stack, with the message of each exception on one line."""
    if not (record.exc_info or record.exc_text or record.stack_info):
        return ""
    error = record.exc_info[1] if record.exc_info else None
    text = "".join(traceback.format_exception(error)) if error else record.exc_text or ""
    for _ in range(MAX_CAUSES):
        if error is None:
            break
        message = _text(error)
        text = text.replace(f": {message}\n", f": {escape(message)}\n")
        error = error.__cause__ or error.__context__
    return "\n".join(filter(None, [text.rstrip("\n"), record.stack_info]))


def _text(value: object) -> str:
    """Return ``str(value)``; never raises, because a log must not fail on what it is given."""
    try:
        return str(value)
    except Exception as error:
        return f"<{type(value).__name__} that raises {type(error).__name__}>"


def _encodable(value: object) -> object:
    """Return ``value`` if JSON can hold it, else its text."""
    try:
        _encode(value)
    except (TypeError, ValueError, RecursionError):
        return _text(value)
    return value


# In ASCII, so that neither a control character nor half of a surrogate pair gets through.
_encode = json.JSONEncoder(default=_text, allow_nan=False, separators=(",", ":")).encode
