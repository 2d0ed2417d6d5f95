"""One request on a connection of its own."""

import http.client
import json
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from testkit.processes import Daemon
from testkit.waiting import TIMEOUT


@dataclass(frozen=True)
class Answer:
    """What the daemon answered."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def detail(self) -> str:
        """The sentence of a problem."""
        return str(self.json["detail"])


def ask(daemon: Daemon, request: str, data: object = None, **headers: str) -> Answer:
    """Send a request such as ``GET /path``, with ``data`` as JSON or, if it is bytes, as it is.

    An underscore in the name of a header is a hyphen.
    """
    method, path = request.split(" ", 1)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    body = data if data is None or isinstance(data, bytes) else json.dumps(data)
    if isinstance(body, str):
        sent.setdefault("Content-Type", "application/json")
    address = "127.0.0.1", daemon.port("http")
    with closing(http.client.HTTPConnection(*address, timeout=TIMEOUT)) as client:
        client.request(method, path, body, sent)
        response = client.getresponse()
        return Answer(response.status, response.headers, response.read())
