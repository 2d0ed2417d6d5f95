"""HTTP/1.1 as a careful client speaks it: plain bytes, nothing retried, nothing hidden."""

import socket
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import urlencode

from testkit.waiting import TIMEOUT

END = b"\r\n\r\n"


class Answer(NamedTuple):
    """Hold one response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def closes(self) -> bool:
        """Tell whether the server said that the connection ends with this response."""
        return self.headers.get("connection", "").lower() == "close"

    @property
    def worker(self) -> int:
        """Return the process that answered, zero when it was not the project."""
        return int(self.headers.get("x-worker", 0))


def get(path: str, **query: object) -> bytes:
    """Return a request without a body."""
    return f"GET {path}?{urlencode(query)} HTTP/1.1\r\nHost: chaos\r\n\r\n".encode()


def post(path: str, body: bytes, **query: object) -> bytes:
    """Return a request with a body."""
    head = get(path, **query).decode().replace("GET", "POST", 1).removesuffix("\r\n")
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def parse(block: bytes) -> tuple[int, dict[str, str]]:
    """Return status and headers (names in lower case) of a response's head."""
    first, *lines = block.decode("latin-1").removesuffix(END.decode()).split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return int(first.split()[1]), {name.lower(): value.strip() for name, _, value in pairs}


class Peer:
    """One connection in the hands of a fault, which says when to send and when to read."""

    def __init__(self, port: int) -> None:
        self._sock = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
        self._stream = self._sock.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close this end."""
        self._stream.close()
        self._sock.close()

    def send(self, data: bytes) -> None:
        """Send these bytes."""
        self._sock.sendall(data)

    def receive(self) -> Answer:
        """Read one response; raises EOFError when the connection ends before it does."""
        block = b""
        while not block.endswith(END):
            line = self._stream.readline()
            if not line:
                raise EOFError(f"the connection ended after {block!r}")
            block += line
        status, headers = parse(block)
        length = int(headers["content-length"])
        body = self._stream.read(length)
        if len(body) < length:
            raise EOFError(f"the connection ended {length - len(body)} bytes early")
        return Answer(status, headers, body)

    def ask(self, path: str = "/work", **query: object) -> Answer:
        """Send a request and read its response."""
        self.send(get(path, **query))
        return self.receive()

    def heard(self) -> bool:
        """Wait for the first byte of an answer, and leave it there."""
        return bool(self._stream.peek(1))

    def ended(self) -> bool:
        """Wait for the server's FIN; false when it sends something else."""
        return self._stream.read(1) == b""

    def owner(self, workers: list[int]) -> int | None:
        """Return the worker that has accepted this connection, None while it is queued."""
        inode = _inode(self._sock.getpeername()[1], self._sock.getsockname()[1])
        return next((pid for pid in workers if f"socket:[{inode}]" in _descriptors(pid)), None)


def _inode(server: int, client: int) -> str:
    """Return the inode of the server's end, "0" while nobody has accepted it."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        ports = [int(fields[at].rpartition(":")[2], 16) for at in (1, 2)]
        if ports == [server, client]:
            return fields[9]
    return "0"


def _descriptors(pid: int) -> set[str]:
    found = set()
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            found.add(str(entry.readlink()))
    except OSError:  # the process, or a descriptor, has gone meanwhile
        return found
    return found
