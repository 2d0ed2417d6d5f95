"""The log handler: it writes what a stream takes and keeps the rest, so a log never blocks."""

import logging
import sys
from contextlib import suppress
from typing import Any

from api_hour.logs import observers, streams
from api_hour.logs.formatters import TextFormatter, shorten


class NonBlockingHandler(logging.StreamHandler[Any]):
    """Writes to a stream without waiting for its reader.

    What a slow reader has not taken waits in memory, up to ``streams.LIMIT`` bytes. Records beyond
    that are lost; they are counted, and the next line that can be written says how many.
    """

    def __init__(self, stream: Any = None) -> None:
        super().__init__(stream)
        self.setFormatter(TextFormatter())
        self._out: streams.Stream | None = None
        with suppress(OSError):  # closed: each record is a fault, and the daemon goes on
            self._out = streams.of(self.stream)
        self._lost = 0  # records since the last one that was written

    def handle(self, record: logging.LogRecord) -> bool:
        """Write one record if the filters let it pass; never raises."""
        try:
            if self.filters:
                passed = self.filter(record)
                if not passed:
                    return False
                # From Python 3.12 on, a filter may return another record.
                record = passed if isinstance(passed, logging.LogRecord) else record
            self.emit(record)  # the stream has a lock of its own
        except BaseException as error:  # a filter or a formatter of any class
            observers.failed("log", error)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, after a line that says how many were lost before it."""
        try:
            data = f"{self.format(record)}{self.terminator}".encode(errors="backslashreplace")
            out = self._out or streams.of(self.stream)
            if len(data) > out.whole:
                data = shorten(data, out.whole)
            if self._lost:
                self._tell_lost(out)
            out.write(data)
            if out.error is not None:
                observers.failed("log", out.error)  # the record waits, and is not lost yet
        except OSError as error:
            with self.lock:  # type: ignore[union-attr]
                self._lost += 1
            observers.failed("log", error)
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        """Do nothing: what waits is written when the stream takes it, also at the exit."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Tell that a formatter or the record itself raised, once a minute."""
        observers.failed("log", sys.exception() or RuntimeError("unknown"))

    def _tell_lost(self, out: streams.Stream) -> None:
        with self.lock:  # type: ignore[union-attr]
            if not self._lost:  # another thread has told it meanwhile
                return
            message = f"{self._lost} log records were lost: the log could not be written"
            record = logging.LogRecord(__name__, logging.WARNING, "", 0, message, None, None)
            out.write((self.format(record) + self.terminator).encode())
            self._lost = 0
