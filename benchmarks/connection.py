"""A client's connection: requests as bytes, whole responses; one send for one request."""

import socket
from dataclasses import dataclass
from typing import Self

PATIENCE = 60.0  # seconds for an answer; a server under callgrind is fifty times slower
CHUNK = 1 << 18  # bytes read at once


class Hangup(Exception):
    """The server closed the connection where an answer was due."""


@dataclass(frozen=True)
class Response:
    """Hold one answer, and whether the connection may be used again."""

    status: int
    headers: dict[str, str]
    body: bytes
    size: int

    @property
    def keeps(self) -> bool:
        """Tell whether the server leaves the connection open."""
        return self.headers.get("connection", "").lower() != "close"


class Connection:
    """Hold one connection to 127.0.0.1."""

    def __init__(self, port: int, patience: float = PATIENCE) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), patience)
        self._buffer = b""
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Send a whole request, or a whole frame."""
        self._socket.sendall(data)

    def receive(self) -> Response:
        """Return the next response; raise Hangup when there is none."""
        self._size = 0
        head = self._until(b"\r\n\r\n").decode("latin-1")
        first, *lines = head.split("\r\n")
        pairs = (line.partition(":")[::2] for line in lines)
        headers = {name.lower(): value.strip() for name, value in pairs}
        status = int(first.split(" ")[1])
        return Response(status, headers, self._body(status, headers), self._size)

    def closed(self) -> bool:
        """Wait for the server to close; False when it sends something instead."""
        return not self._socket.recv(1)

    def is_open(self) -> bool:
        """Tell whether the server has left it open so far."""
        self._socket.setblocking(False)
        try:
            return bool(self._socket.recv(1))
        except BlockingIOError:
            return True
        except ConnectionResetError:
            return False

    def send_frame(self, message: bytes) -> None:
        """Send a short WebSocket message; its mask is zero, which leaves it as it is."""
        self.send(bytes([0x81, 0x80 | len(message), 0, 0, 0, 0]) + message)

    def receive_frame(self) -> bytes:
        """Return the next short WebSocket message."""
        _, length = self._exactly(2)
        return self._exactly(length)

    def _body(self, status: int, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") == "chunked":
            return b"".join(iter(self._chunk, b""))
        if status in (101, 204, 304):
            return b""
        return self._exactly(int(headers["content-length"]))

    def _chunk(self) -> bytes:
        length = int(self._until(b"\r\n"), 16)
        return self._exactly(length + 2)[:-2]

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            self._more()
        found, _, self._buffer = self._buffer.partition(mark)
        self._size += len(found) + len(mark)
        return found

    def _exactly(self, length: int) -> bytes:
        while len(self._buffer) < length:
            self._more()
        found, self._buffer = self._buffer[:length], self._buffer[length:]
        self._size += length
        return found

    def _more(self) -> None:
        data = self._socket.recv(CHUNK)
        if not data:
            raise Hangup("the connection ended before the answer did")
        self._buffer += data
