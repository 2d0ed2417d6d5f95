"""The access log: a record for each answer, without what logging does to make any other record.

To look for its caller, its thread and its process would cost more than many a request.
"""

import logging
import os
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
        headers, now = request.headers, clock()
        remote, method, path = request.remote or NO_VALUE, request.method, request.path_qs
        status, size = response.status, response.body_length
        told: dict[str, Any] = {
            "remote": remote,
            "method": method,
            "path": path,
            "status": status,
            "bytes": size,
            "seconds": round(time, 6),
        }
        for name, header in (("referer", hdrs.REFERER), ("user_agent", hdrs.USER_AGENT)):
            if header in headers:
                told[name] = headers[header]
        client = told.get("referer", NO_VALUE), told.get("user_agent", NO_VALUE)
        args = (remote, method, path, *request.version, status, size, time, *client)
        own = {"created": now, "msecs": now % 1 * 1000, "args": args}
        record = object.__new__(logging.LogRecord)
        record.__dict__ = _same(self.logger, os.getpid()) | own | told
        self.logger.handle(record)


@cache
def _same(logger: logging.Logger, _process: int) -> dict[str, Any]:
    """Return what is the same in all records of a process."""
    return vars(logger.makeRecord(logger.name, logging.INFO, "", 0, LINE, (), None))
