"""A client's HTTP/1.1 connection in plain bytes: it retries nothing and hides nothing."""

import socket
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlencode

from testkit.waiting import TIMEOUT

HEAD_END = b"\r\n\r\n"
CHUNK = 1 << 18  # bytes that one read may return
WITHOUT_BODY = (101, 204, 304)


@dataclass(frozen=True)
class Response:
    """A complete response; the names of its headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes
    size: int = 0  # bytes with the head

    @property
    def closes(self) -> bool:
        """Tell whether the server announced that it closes the connection."""
        return self.headers.get("connection", "").lower() == "close"

    @property
    def worker(self) -> int:
        """Return the process id in ``X-Worker``, 0 without one."""
        return int(self.headers.get("x-worker", 0))


def get(path: str, **query: object) -> bytes:
    """Return a request without a body."""
    return f"GET {path}?{urlencode(query)} HTTP/1.1\r\nHost: test\r\n\r\n".encode()


def post(path: str, body: bytes, **query: object) -> bytes:
    """Return a request with a body."""
    head = get(path, **query).decode().replace("GET", "POST", 1).removesuffix("\r\n")
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    """Return status and headers, with names in lower case, of a response's head."""
    first, *lines = head.decode("latin-1").removesuffix(HEAD_END.decode()).split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return int(first.split()[1]), {name.lower(): value.strip() for name, _, value in pairs}


class Connection:
    """A connection to 127.0.0.1; every wait ends with TimeoutError after ``timeout`` seconds."""

    def __init__(self, port: int, timeout: float = TIMEOUT) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout)
        self._buffer = b""
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close this end."""
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Send all of ``data``."""
        self._socket.sendall(data)

    def receive(self) -> Response:
        """Return the next response; raises EOFError if the server closes before its end."""
        self._size = 0
        status, headers = parse_head(self._read_until(HEAD_END))
        return Response(status, headers, self._read_body(status, headers), self._size)

    def ask(self, path: str = "/work", **query: object) -> Response:
        """Send a GET and return the response to it."""
        self.send(get(path, **query))
        return self.receive()

    def send_frame(self, message: bytes) -> None:
        """Send a WebSocket message of up to 125 bytes; a mask of zeros leaves it unchanged."""
        self.send(bytes([0x81, 0x80 | len(message), 0, 0, 0, 0]) + message)

    def receive_frame(self) -> bytes:
        """Return the next WebSocket message of up to 125 bytes."""
        _, length = self._read(2)
        return self._read(length)

    def has_data(self) -> bool:
        """Wait for the next byte without reading it; False if the server closes instead."""
        return bool(self._buffer or self._socket.recv(1, socket.MSG_PEEK))

    def is_closed(self) -> bool:
        """Wait until the server closes; False if it sends data instead."""
        return not self._buffer and not self._socket.recv(1)

    def is_open(self) -> bool:
        """Tell whether the server has not closed so far."""
        self._socket.setblocking(False)
        try:
            return bool(self._socket.recv(1))
        except BlockingIOError:
            return True
        except ConnectionResetError:
            return False

    def owner(self, workers: Collection[int]) -> int | None:
        """Return the worker that accepted this connection, None while it is in the backlog."""
        inode = _server_inode(self._socket.getpeername()[1], self._socket.getsockname()[1])
        return next((pid for pid in workers if f"socket:[{inode}]" in _descriptors(pid)), None)

    def _read_body(self, status: int, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") == "chunked":
            return b"".join(iter(self._read_chunk, b""))
        if status in WITHOUT_BODY:
            return b""
        return self._read(int(headers["content-length"]))

    def _read_chunk(self) -> bytes:
        length = int(self._read_until(b"\r\n"), 16)
        return self._read(length + 2)[:-2]

    def _read_until(self, end: bytes) -> bytes:
        while end not in self._buffer:
            self._read_more()
        return self._read(self._buffer.index(end) + len(end)).removesuffix(end)

    def _read(self, length: int) -> bytes:
        while len(self._buffer) < length:
            self._read_more()
        data, self._buffer = self._buffer[:length], self._buffer[length:]
        self._size += length
        return data

    def _read_more(self) -> None:
        data = self._socket.recv(CHUNK)
        if not data:
            received, self._buffer = self._buffer, b""
            raise EOFError(f"the connection ended early, after {received[-200:]!r}")
        self._buffer += data


def _server_inode(server: int, client: int) -> str:
    """Return the inode of the server's end; "0" until it is accepted."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        ports = [int(fields[index].rpartition(":")[2], 16) for index in (1, 2)]
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
