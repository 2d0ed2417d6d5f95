"""An HTTP client that keeps its connection as long as a draining server answers on it."""

import http.client
import json
import time
from typing import Any

from testkit.processes import Daemon
from testkit.waiting import TIMEOUT

IDLE = 1.0  # seconds; a draining worker closes a connection that is idle for five


class JSONClient(http.client.HTTPConnection):
    """A client of the listener ``http``, which speaks JSON.

    It opens a new connection after ``Connection: close`` and after a long pause.
    """

    def __init__(self, daemon: Daemon) -> None:
        super().__init__("127.0.0.1", daemon.port("http"), timeout=TIMEOUT)
        self._last_used = time.monotonic()

    def ask(self, method: str, path: str, data: object = None) -> tuple[int, Any]:
        """Send a request; return status and JSON of the response."""
        now = time.monotonic()
        if now - self._last_used > IDLE:
            self.close()
        self._last_used = now
        body = None if data is None else json.dumps(data)
        self.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        response = self.getresponse()
        return response.status, json.loads(response.read())
