"""A limit for what a client can have logged at will, so that nobody fills the disk by asking.

Libraries log what a peer does, and what they were told to call raises: asyncio each exception of a
protocol, aiohttp each exception of an endpoint and each cookie without a name. So of one *kind* of
record, from a warning on, ``MOST`` in ``PERIOD`` pass. The others are counted: the next record of
their kind that passes tells how many they were, and the metrics show them as
``log_records_limited_total``. A kind is a logger, a level, the beginning of a message and the line
that raised: two faults never hide each other.

An exception of an endpoint is the project's fault, whoever asked for it. So of ``aiohttp.server``
and its like every record passes, and only the traceback is limited.

Standard library and ``observers`` only, so that every part may import it.
"""

import logging
import os
import re
import time
from typing import Any

from api_hour.logs import observers

MOST = 10  # records of one kind
PERIOD = 60.0  # seconds
MAX_KINDS = 1000  # what comes after them is of one kind
VARIABLE = re.compile(r"[(<\"'\n]")  # where the text of a library may begin to hold a peer's own

counts: dict[str, int] = {}  # records that did not pass, or not as a whole, by logger
_periods: dict[Any, tuple[float, int]] = {}  # by kind: its begin, and how many records came


def limit(*names: str) -> None:
    """Limit the records of loggers."""
    for name in names:
        logging.getLogger(name).addFilter(_passes)


def limit_tracebacks(*names: str) -> None:
    """Limit the tracebacks of loggers: the records beyond are one line each."""
    for name in names:
        logging.getLogger(name).addFilter(_shorten)


def forget() -> None:
    """Start anew, as a child does: its parent has counted what was before."""
    counts.clear()
    _periods.clear()


os.register_at_fork(after_in_child=forget)


def _passes(record: logging.LogRecord) -> bool:
    if record.levelno < logging.WARNING:
        return True
    now = time.monotonic()
    kind: Any = _kind(record)
    if kind not in _periods and len(_periods) >= MAX_KINDS:
        kind = None
    begin, came = _periods.get(kind, (now, 0))
    if now - begin >= PERIOD:
        if came > MOST:
            record.msg = f"{record.getMessage()} ({came - MOST} more since the last like it)"
            record.args = None
        begin, came = now, 0
    _periods[kind] = begin, came + 1
    if came < MOST:
        return True
    counts[record.name] = counts.get(record.name, 0) + 1
    return False


def _shorten(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if error is not None and not _passes(record):
        record.msg = f"{record.getMessage()}: {observers.describe(error)}"
        record.args = record.exc_info = record.exc_text = None
    return True


def _kind(record: logging.LogRecord) -> tuple[Any, ...]:
    place, error = None, record.exc_info[1] if record.exc_info else None
    trace = error.__traceback__ if error is not None else None
    while trace is not None:
        place, trace = (trace.tb_frame.f_code, trace.tb_lineno), trace.tb_next
    text = VARIABLE.split(str(record.msg), maxsplit=1)[0]
    return record.name, record.levelno, text, type(error), place
