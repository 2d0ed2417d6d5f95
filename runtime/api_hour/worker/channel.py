"""One socket pair between the master and a worker: short lines each way; EOF tells of a death.

Up go READY, FAILED and REPLACE (with a reason) and DRAINING; down go UNREADY, DRAIN and, with
the sockets themselves, COVER.
"""

import json
import select
import socket
from collections.abc import Sequence
from enum import StrEnum
from typing import Self

MAX_FDS = 64  # descriptors with one line
MAX_TEXT = 4000  # characters of a reason; a line stays far below the socket's buffer


class Message(StrEnum):
    """Name what a line says."""

    READY = "ready"  # up: the servers accept
    FAILED = "failed"  # up: the worker cannot boot, with the reason
    REPLACE = "replace"  # up: the worker wants a successor, with the reason
    DRAINING = "draining"  # up: the worker stops accepting on its own account
    UNREADY = "unready"  # down: answer "not ready" to probes, accept on
    COVER = "cover"  # down: accept on these sockets too
    DRAIN = "drain"  # down: stop accepting, finish, leave


class Channel:
    """Hold one end of the pair; never blocks."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._buffer = b""
        self.fds: list[int] = []  # received, for the receiver to take
        self.closed = False

    @classmethod
    def pair(cls) -> tuple[Self, Self]:
        """Return the two connected ends."""
        left, right = socket.socketpair()
        return cls(left), cls(right)

    def fileno(self) -> int:
        """Return the descriptor, for a selector."""
        return self._sock.fileno()

    def hung_up(self, seconds: float) -> bool:
        """Wait for the end of the other side, reading nothing; tell whether it has come."""
        poll = select.poll()
        poll.register(self._sock, 0)
        return bool(poll.poll(seconds * 1000))

    def send(self, message: Message, text: str = "", fds: Sequence[int] = ()) -> None:
        """Send one line, with descriptors; a dead receiver is left to be found by its EOF."""
        line = json.dumps([message, text[:MAX_TEXT]]).encode() + b"\n"
        try:
            socket.send_fds(self._sock, [line], fds)
        except OSError:
            self.closed = True

    def receive(self) -> list[tuple[Message, str]]:
        """Return the complete lines that have arrived; ``closed`` is set after EOF."""
        try:
            while True:
                chunk, fds, _, _ = socket.recv_fds(self._sock, 65536, MAX_FDS)
                self.fds += fds
                if not chunk:
                    self.closed = True
                    break
                self._buffer += chunk
        except BlockingIOError:
            pass
        except OSError:
            self.closed = True
        *lines, self._buffer = self._buffer.split(b"\n")
        return [(Message(message), text) for message, text in map(json.loads, lines)]

    def close(self) -> None:
        """Close this end; the other one reads EOF."""
        self.closed = True
        self._sock.close()
