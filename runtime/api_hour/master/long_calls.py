"""Calls of the operator's code in the master: hooks, and gunicorn.conf.py at a reload.

While one runs, the master does nothing else. So one that takes long is told with its place, and
then TERM, INT or QUIT ends it: Python runs a signal's handler in the middle of the call, and ours
raises. What waits in C, such as a resolver, ends when it comes back from there.
"""

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from api_hour.worker.importer import shorten

NOTICE = 5.0  # seconds after which a call takes long
NOT_THE_OPERATORS = "<", os.path.dirname(os.__file__), os.path.dirname(os.path.dirname(__file__))
log = logging.getLogger("api_hour.master")


class Interrupted(BaseException):
    """A signal ended a call that took long; not an Exception, which the call may catch."""


class LongCalls:
    """Watches one call at a time."""

    def __init__(self) -> None:
        self._doing = ""
        self._is_late = False
        self.asked_to_end = False  # by a signal that the master has not handled yet

    @contextmanager
    def watched(self, doing: str) -> Iterator[None]:
        """Tell if the block takes long; then ``end`` raises Interrupted in it."""
        self._doing = doing
        handler = signal.signal(signal.SIGALRM, self._on_alarm)
        signal.setitimer(signal.ITIMER_REAL, NOTICE)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self._is_late = False
            signal.signal(signal.SIGALRM, handler)

    def end(self) -> None:
        """End a call that takes long, from the handler of a signal, now or as soon as it does."""
        self.asked_to_end = True
        if self._is_late:
            raise Interrupted(f"{self._doing} took too long, and a signal ended it")

    def _on_alarm(self, _number: int, frame: FrameType | None) -> None:
        log.warning(
            "%s has not returned for %g s%s, and the master does nothing else: TERM or INT ends it",
            *(self._doing, NOTICE, _place(frame)),
        )
        self._is_late = True  # not before: the log would take in what a signal raises
        if self.asked_to_end:
            self.end()


def _place(frame: FrameType | None) -> str:
    """Return file:line of the innermost frame in the operator's own code, or ""."""
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(NOT_THE_OPERATORS) and "site-packages" not in file:
            return f", at {shorten(file)}:{frame.f_lineno}"
        frame = frame.f_back
    return ""
