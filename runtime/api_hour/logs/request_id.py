"""The id of the request that is being served: the client's, when it is harmless, or a new one.

Knows neither HTTP nor logging; what serves a request sets ``current``, what writes a log reads it.
"""

import itertools
import re
import secrets
from contextvars import ContextVar

HEADER = "X-Request-ID"
HARMLESS = re.compile(r"[A-Za-z0-9._~+/=:-]{1,128}")

current: ContextVar[str] = ContextVar("api_hour_request_id", default="")


class Ids:
    """Give each request of one process an id that no other request has."""

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(8)
        self._next = itertools.count(1).__next__

    def of(self, given: str | None) -> str:
        """Return the client's own id, unless it could do harm in a log, or a new one."""
        if given is not None and HARMLESS.fullmatch(given):
            return given
        return f"{self._prefix}-{self._next():x}"
