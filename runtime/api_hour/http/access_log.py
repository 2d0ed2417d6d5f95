"""The access log: a record for each answer, without what logging does to make any other record.

To look for its caller, its thread and its process would cost more than many a request.
"""

import logging
from functools import cache
from time import time as clock
from typing import Any

from aiohttp import hdrs, web
from aiohttp.abc import AbstractAccessLogger

LINE = '%s "%s %s HTTP/%d.%d" %d %d %.6f "%s" "%s"'  # the combined form; seconds before the headers
NO_VALUE = "-"


class AccessLogger(AbstractAccessLogger):
    """Tell each answer in a line for people, and in fields for machines."""

    @property
    def enabled(self) -> bool:
        """Tell whether the log is on."""
        return self.logger.isEnabledFor(logging.INFO)

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """Write what was asked and what was answered, which took ``time`` seconds."""
        message, remote = request._message, request.remote or NO_VALUE
        method, path, headers = message.method, message.path, message.headers
        if path[:1] != "/":  # a whole URL, which may hold a password
            path = request.path_qs
        status, size = response.status, response.body_length
        now = clock()
        told: dict[str, Any] = {
            "created": now,
            "msecs": now % 1 * 1000,
            "remote": remote,
            "method": method,
            "path": path,
            "status": status,
            "bytes": size,
            "seconds": round(time, 6),
        }
        if hdrs.REFERER in headers:
            told["referer"] = headers[hdrs.REFERER]
        if hdrs.USER_AGENT in headers:
            told["user_agent"] = headers[hdrs.USER_AGENT]
        line = remote, method, path, *message.version, status, size, time
        told["args"] = *line, told.get("referer", NO_VALUE), told.get("user_agent", NO_VALUE)
        record = object.__new__(logging.LogRecord)
        record.__dict__ = _same(self.logger) | told
        self.logger.handle(record)


@cache
def _same(logger: logging.Logger) -> dict[str, Any]:
    """Return what is the same in all records; only workers serve, and they fork no other."""
    return vars(logger.makeRecord(logger.name, logging.INFO, "", 0, LINE, (), None))
