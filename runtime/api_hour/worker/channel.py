"""The channel between the master and a worker: a socket pair that carries short lines.

The worker sends BOOTS, READY, FAILED, REPLACE and TOLD (with a reason) and DRAINING; the master
sends UNREADY, DRAIN, HURRY and, together with the sockets, COVER. End of file means that the other
side died. A channel never blocks: a line is far smaller than the socket's buffer, and a full buffer
counts as a dead receiver.
"""

import json
import select
import socket
from collections.abc import Sequence
from enum import StrEnum
from typing import Self

MAX_FDS = 64  # descriptors sent with one line
MAX_TEXT = 4000  # characters of a reason; a line stays far below the socket's buffer


class Message(StrEnum):
    """The kind of a line."""

    # From the worker.
    BOOTS = "boots"  # what the worker does now, before it is ready
    READY = "ready"  # the servers accept
    FAILED = "failed"  # the worker cannot boot, with the reason
    REPLACE = "replace"  # the worker asks for a replacement, with the reason
    TOLD = "told"  # the same, because somebody told it to leave: the reason is who
    DRAINING = "draining"  # the worker drains although the master did not ask for it
    # From the master.
    UNREADY = "unready"  # answer "not ready" to probes, but go on accepting
    COVER = "cover"  # accept on these sockets as well
    DRAIN = "drain"  # stop accepting, finish, exit
    HURRY = "hurry"  # the drain's deadline is now


class Channel:
    """One end of the pair."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._buffer = b""
        self._fds: list[int] = []  # received, and not yet taken
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
        """Wait up to ``seconds`` for the other side's death, reading nothing; tell if it died."""
        poll = select.poll()
        poll.register(self._sock, 0)
        return bool(poll.poll(seconds * 1000))

    def send(self, message: Message, text: str = "", fds: Sequence[int] = ()) -> None:
        """Send one line and descriptors; errors are left for ``receive`` to find, as EOF."""
        line = json.dumps([message, text[:MAX_TEXT]]).encode() + b"\n"
        try:
            socket.send_fds(self._sock, [line], fds)
        except OSError:
            self.closed = True

    def receive(self) -> list[tuple[Message, str]]:
        """Return the complete lines that have arrived; after EOF ``closed`` is true."""
        try:
            while True:
                chunk, fds, _, _ = socket.recv_fds(self._sock, 65536, MAX_FDS)
                self._fds += fds
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

    def take_fds(self, count: int) -> list[int]:
        """Return the first ``count`` descriptors received; the caller owns them."""
        fds, self._fds = self._fds[:count], self._fds[count:]
        return fds

    def close(self) -> None:
        """Close this end; the other one reads EOF."""
        self.closed = True
        self._sock.close()
