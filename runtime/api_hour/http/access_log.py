"""The access log: one record for each answer, made without the usual costs of logging.

logging looks up the caller, the thread and the process of each record, which would cost more than
many requests do. In the line for people a ``"`` of a client is written ``\\"`` and a backslash
twice, as Apache does, so that no header can shift the fields behind it. What a client may choose is
bounded: a line of JSON, which holds it twice, stays below the 4,096 bytes that a pipe takes whole.
"""

import json
import logging
from collections.abc import Sequence
from functools import cache
from time import time as clock
from typing import Any

from aiohttp import hdrs, web
from aiohttp.abc import AbstractAccessLogger

# The combined log format, with the seconds before the two headers.
LINE = '%s "%s %s HTTP/%d.%d" %d %d %.6f "%s" "%s"'
NO_VALUE = "-"
ROOM = 1600  # bytes of JSON for path, Referer and User-Agent; beyond it, each gets a third
ALWAYS_FITS = ROOM // 12  # characters: none takes more bytes of JSON
CUT = "[...]"


class AccessLogger(AbstractAccessLogger):
    """Logs each answer as a line for people, with fields for machines."""

    @property
    def enabled(self) -> bool:
        """Return whether anybody listens."""
        return self.logger.isEnabledFor(logging.INFO)

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """Log a request and its answer, which took ``time`` seconds."""
        message, remote = request._message, request.remote or NO_VALUE
        method, path, headers = message.method, message.path, message.headers
        if path[:1] != "/":  # a whole URL, which may hold a password
            path = request.path_qs
        status, size = response.status, response.body_length
        now = clock()
        fields: dict[str, Any] = {
            "created": now,
            "msecs": now % 1 * 1000,
            "remote": remote,
            "method": method,
            "path": path,
            "status": status,
            "bytes": size,
            "seconds": round(time, 6),
        }
        referer = agent = NO_VALUE
        if hdrs.REFERER in headers:
            fields["referer"] = referer = headers[hdrs.REFERER]
        if hdrs.USER_AGENT in headers:
            fields["user_agent"] = agent = headers[hdrs.USER_AGENT]
        sent = f"{path}{referer}{agent}"
        if len(sent) > ROOM or not sent.isascii() or '"' in sent or "\\" in sent:
            if len(sent) > ALWAYS_FITS and _size(sent) > ROOM:
                path, referer, agent = map(_shortened, (path, referer, agent))
                shown = {"path": path, "referer": referer, "user_agent": agent}
                fields.update((name, text) for name, text in shown.items() if name in fields)
            path, referer, agent = map(_quoted, (path, referer, agent))
        fields["args"] = remote, method, path, *message.version, status, size, time, referer, agent
        record = object.__new__(logging.LogRecord)
        record.__dict__ = _constant_attributes(self.logger) | fields
        self.logger.handle(record)


@cache
def _constant_attributes(logger: logging.Logger) -> dict[str, Any]:
    """Return what is the same in all records of this process; a worker never forks a server."""
    return vars(logger.makeRecord(logger.name, logging.INFO, "", 0, LINE, (), None))


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _size(text: str) -> int:
    """Return the bytes that ``text`` takes in the message of a line of JSON."""
    return len(json.dumps(_quoted(text)))


def _shortened(text: str) -> str:
    """Return the beginning of ``text`` that takes a third of ROOM, with a mark if there is more."""
    shown = text[: ROOM // 3]
    while _size(shown) > ROOM // 3:
        shown = shown[: len(shown) * 3 // 4]
    return text if shown == text else shown + CUT


def without(kind: type[AbstractAccessLogger], paths: Sequence[str]) -> type[AbstractAccessLogger]:
    """Return the access logger ``kind`` without ``paths``.

    A path that ends with ``/`` stands for everything below it, but ``/`` for itself alone.
    """
    exact = frozenset(paths)
    folders = tuple(path for path in paths if path.endswith("/") and path != "/")

    class Skipping(kind):  # type: ignore[misc, valid-type]
        def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
            """Log a request and its answer unless its path is left out."""
            path = request.path
            if path not in exact and not path.startswith(folders):
                super().log(request, response, time)

    return Skipping
