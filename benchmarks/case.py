"""The cases: requests to a contender, and the answers it must give."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import kitchen

HEADERS = {"Host": "127.0.0.1", "User-Agent": "benchmark", "Accept": "*/*"}
JSON = "application/json"
HELLO = {"message": "Hello, World!"}
ECHO = {"message": "Hello, World!", "numbers": [1, 2, 3, 5, 8]}
ORDER = {"name": "Paper, A4", "quantity": 20, "tags": ["office", "paper"]}
MEGABYTE = b"x" * 1_000_000
STATIC = Path(__file__).parent / "contenders/shapes/static/page.txt"
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A request and the only right answer to it.

    ``answer`` is the body, None where servers differ in their wording. ``keeps``: the connection
    stays open. ``frame``: a WebSocket message sent after the upgrade, whose echo is measured.
    ``weight``: how many light requests one of these replaces in a run of N.
    """

    title: str
    path: str
    method: str = "GET"
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200
    content_type: str = JSON
    answer: bytes | None = None
    keeps: bool = True
    frame: bytes = b""
    database: bool = False
    weight: int = 1

    @property
    def request(self) -> bytes:
        """The request as sent over the wire."""
        headers = {**HEADERS, **self.headers}
        if self.body:
            headers["Content-Length"] = str(len(self.body))
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"{self.method} {self.path} HTTP/1.1\r\n{head}\r\n".encode() + self.body


def _json(data: object) -> bytes:
    return json.dumps(data, separators=(",", ":")).encode()


CASES = {
    "index": Case(title="JSON", path="/index", answer=_json(HELLO)),
    "hello": Case(
        title="path and query parameters",
        path="/hello/World?greeting=Good%20morning",
        answer=_json({"greeting": "Good morning", "name": "World"}),
    ),
    "echo": Case(
        title="JSON posted and echoed",
        path="/echo",
        method="POST",
        headers={"Content-Type": JSON},
        body=json.dumps(ECHO).encode(),  # with spaces, so that nobody can just copy it
        answer=_json(ECHO),
    ),
    "typed": Case(
        title="path, query and body checked, an answer from types",
        path="/orders/7?limit=50&urgent=true",
        method="POST",
        headers={"Content-Type": JSON},
        body=json.dumps(ORDER).encode(),
        answer=_json({"id": 7, "limit": 50, "urgent": True, **ORDER}),
    ),
    "agents": Case(
        title=f"kitchen table: {kitchen.AGENTS} joined rows",
        path="/agents",
        answer=_json(kitchen.agents()),
        database=True,
        weight=5,
    ),
    "agent": Case(
        title="one row by key", path="/agents/7", answer=_json(kitchen.agent(7)), database=True
    ),
    "first": Case(
        title="20 rows by key",
        path="/agents/first/20",
        answer=_json([kitchen.agent(number) for number in range(1, 21)]),
        database=True,
        weight=20,
    ),
}

_TEXT = "text/plain; charset=utf-8"
_BYTES = "application/octet-stream"
SHAPES = {
    "await": Case(
        title="a handler that awaits once",
        path="/await",
        content_type=_TEXT,
        answer=b"Hello, World!",
    ),
    "upload": Case(
        title="1 MB posted",
        path="/upload",
        method="POST",
        headers={"Content-Type": _BYTES},
        body=MEGABYTE,
        content_type=_TEXT,
        answer=b"1000000",
        weight=5,
    ),
    "download": Case(
        title="1 MB sent", path="/download", content_type=_BYTES, answer=MEGABYTE, weight=5
    ),
    "stream": Case(
        title="10 pieces of 10 kB streamed",
        path="/stream",
        content_type=_BYTES,
        answer=MEGABYTE[:100_000],
    ),
    "websocket": Case(
        title="a WebSocket message echoed",
        path="/websocket",
        headers=UPGRADE,
        status=101,
        content_type="",
        answer=b"",
        frame=b"Hello, World!",
    ),
    "static": Case(
        title="static file of 5 kB",
        path="/static/page.txt",
        content_type="text/plain",
        answer=STATIC.read_bytes(),
    ),
    "missing": Case(
        title="404", path="/nothing", status=404, content_type=_TEXT, answer=b"404: Not Found"
    ),
    "error": Case(
        title="500: an exception in the handler",
        path="/error",
        status=500,
        content_type=_TEXT,
        answer=None,
        keeps=False,
    ),
}
ALL = {**CASES, **SHAPES}
