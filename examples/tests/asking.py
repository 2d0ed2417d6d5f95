"""An HTTP client that keeps its connection for as long as the server does."""

import http.client
import json
from typing import Any

from daemon import PATIENCE, Daemon


class Asking(http.client.HTTPConnection):
    """Ask a daemon's listener http, and connect anew only after ``Connection: close``."""

    def __init__(self, daemon: Daemon) -> None:
        super().__init__("127.0.0.1", daemon.port("http"), timeout=PATIENCE)

    def ask(self, method: str, path: str, data: object = None) -> tuple[int, Any]:
        """Return status and JSON of the answer."""
        body = None if data is None else json.dumps(data)
        self.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        response = self.getresponse()
        return response.status, json.loads(response.read())
