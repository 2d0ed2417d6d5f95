"""An HTTP client that keeps its connection for as long as the server must."""

import http.client
import json
import time
from typing import Any

from testkit.processes import Daemon
from testkit.waiting import TIMEOUT

IDLE = 1.0  # seconds; after five, a worker that drains closes a connection


class Asking(http.client.HTTPConnection):
    """Ask a daemon's listener http; connect anew after ``Connection: close`` or a long pause."""

    def __init__(self, daemon: Daemon) -> None:
        super().__init__("127.0.0.1", daemon.port("http"), timeout=TIMEOUT)
        self._asked = time.monotonic()

    def ask(self, method: str, path: str, data: object = None) -> tuple[int, Any]:
        """Return status and JSON of the answer."""
        now = time.monotonic()
        if now - self._asked > IDLE:
            self.close()
        self._asked = now
        body = None if data is None else json.dumps(data)
        self.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        response = self.getresponse()
        return response.status, json.loads(response.read())
