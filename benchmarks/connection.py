"""A client's HTTP connection: sends a request in one piece, receives whole responses."""

import socket
from dataclasses import dataclass
from typing import Self

PATIENCE = 60.0  # seconds for an answer; callgrind makes a server about fifty times slower
CHUNK = 1 << 18  # bytes read at once


class Hangup(Exception):
    """The server closed the connection before its answer was complete."""


@dataclass(frozen=True)
class Response:
    """One answer; ``size`` is its bytes on the wire."""

    status: int
    headers: dict[str, str]
    body: bytes
    size: int

    @property
    def keeps(self) -> bool:
        """Whether the connection may be used for another request."""
        return self.headers.get("connection", "").lower() != "close"


class Connection:
    """A connection to 127.0.0.1."""

    def __init__(self, port: int, patience: float = PATIENCE) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), patience)
        self._buffer = b""
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Send a whole request or a whole frame."""
        self._socket.sendall(data)

    def receive(self) -> Response:
        """Return the next response; raise Hangup if the server closes first."""
        self._size = 0
        head = self._read_until(b"\r\n\r\n").decode("latin-1")
        first, *lines = head.split("\r\n")
        pairs = (line.partition(":")[::2] for line in lines)
        headers = {name.lower(): value.strip() for name, value in pairs}
        status = int(first.split(" ")[1])
        return Response(status, headers, self._body(status, headers), self._size)

    def closed(self) -> bool:
        """Wait until the server closes; return False if it sends something instead."""
        return not self._socket.recv(1)

    def is_open(self) -> bool:
        """Return whether the server has left the connection open so far."""
        self._socket.setblocking(False)
        try:
            return bool(self._socket.recv(1))
        except BlockingIOError:
            return True
        except ConnectionResetError:
            return False

    def send_frame(self, message: bytes) -> None:
        """Send a WebSocket message of up to 125 bytes, masked by zeros, which change nothing."""
        self.send(bytes([0x81, 0x80 | len(message), 0, 0, 0, 0]) + message)

    def receive_frame(self) -> bytes:
        """Return the next WebSocket message of up to 125 bytes."""
        _, length = self._read_exactly(2)
        return self._read_exactly(length)

    def _body(self, status: int, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") == "chunked":
            return b"".join(iter(self._chunk, b""))
        if status in (101, 204, 304):
            return b""
        return self._read_exactly(int(headers["content-length"]))

    def _chunk(self) -> bytes:
        length = int(self._read_until(b"\r\n"), 16)
        return self._read_exactly(length + 2)[:-2]

    def _read_until(self, separator: bytes) -> bytes:
        while separator not in self._buffer:
            self._receive_more()
        found, _, self._buffer = self._buffer.partition(separator)
        self._size += len(found) + len(separator)
        return found

    def _read_exactly(self, length: int) -> bytes:
        while len(self._buffer) < length:
            self._receive_more()
        found, self._buffer = self._buffer[:length], self._buffer[length:]
        self._size += length
        return found

    def _receive_more(self) -> None:
        data = self._socket.recv(CHUNK)
        if not data:
            raise Hangup("the server closed the connection before the end of its answer")
        self._buffer += data
