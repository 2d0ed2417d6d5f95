"""The id of the request that is being served: the client's own if it is harmless, else a new one.

Knows neither HTTP nor logging: what serves a request sets ``current``, what writes a log reads it.
"""

import itertools
import re
import secrets
from contextvars import ContextVar

HEADER = "X-Request-ID"
HARMLESS = re.compile(r"[A-Za-z0-9._~+/=:-]{1,128}")

current: ContextVar[str] = ContextVar("api_hour_request_id", default="")


class Ids:
    """The ids of the requests of one process, each different from every other."""

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(8)
        self._next = itertools.count(1).__next__

    def of(self, given: str | None) -> str:
        """Return the id that the client has ``given``, or a new one if it could harm a log."""
        if given is not None and HARMLESS.fullmatch(given):
            return given
        return f"{self._prefix}-{self._next():x}"
