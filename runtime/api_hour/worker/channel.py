"""The channel between the master and a worker: a socket pair that carries short lines.

The worker sends BOOTS, READY, FAILED, REPLACE and TOLD (with a reason) and DRAINING; the master
sends UNREADY, DRAIN, HURRY and, together with the sockets, COVER. End of file means that the other
side died. A channel never blocks: a line is far smaller than the socket's buffer, and a full buffer
counts as a dead receiver.

A worker runs code that the master does not trust. So what is received is parsed strictly, and the
master's end takes no descriptors. A line is bounded in bytes, and the sender has a budget of lines
that refills slowly. It pays for whatever wakes the receiver: for a line that comes byte by byte as
much as for that many lines. What does not fit makes the channel ``broken``, which is for its owner
to act on; nothing is received after that.
"""

import json
import select
import socket
import time
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Self

MAX_FDS = 64  # descriptors sent with one line
MAX_TEXT = 4000  # characters of a reason; a line stays far below the socket's buffer
MAX_LINE = 6 * MAX_TEXT + 100  # bytes; JSON writes a character as six at most, outside of ASCII
MAX_LINES = 500  # at once, and pieces of lines; a worker sends one for each listener, and ten more
REFILL = 10.0  # lines and pieces a second, after that


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

    def __init__(self, sock: socket.socket, *, takes_fds: bool = False) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._buffer = b""
        self._takes_fds = takes_fds
        self._fds: list[int] = []  # received, and not yet taken
        self._spent, self._spent_at = 0.0, time.monotonic()  # of MAX_LINES
        self.closed = False
        self.broken = ""  # why the other side cannot be understood; empty while it can

    @classmethod
    def pair(cls) -> tuple[Self, Self]:
        """Return the master's end and the worker's, which takes descriptors."""
        left, right = socket.socketpair()
        return cls(left), cls(right, takes_fds=True)

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
        messages: list[tuple[Message, str]] = []
        try:
            while not self.broken:
                if not (chunk := self._receive_chunk()):
                    self.closed = True
                    break
                messages += self._take_in(chunk)
        except BlockingIOError:
            pass
        except OSError:
            self.closed = True
        return messages

    def _receive_chunk(self) -> bytes:
        if not self._takes_fds:
            return self._sock.recv(65536)  # the kernel drops what descriptors came with it
        chunk, fds, _, _ = socket.recv_fds(self._sock, 65536, MAX_FDS)
        self._fds += fds
        return chunk

    def _take_in(self, chunk: bytes) -> Iterator[tuple[Message, str]]:
        """Yield the messages that ``chunk`` completes."""
        *lines, self._buffer = (self._buffer + chunk).split(b"\n")
        if not self._can_pay(1 + len(lines)):
            self._break(f"sent more than {MAX_LINES} messages, and {REFILL:g} a second")
            return
        for line in lines:
            try:
                yield _parse(line)
            except ValueError:
                self._break(f"sent what is not a message: {line[:60]!r}")
                return
        if len(self._buffer) > MAX_LINE:
            self._break("sent a line without an end")

    def _can_pay(self, count: int) -> bool:
        now = time.monotonic()
        refilled = (now - self._spent_at) * REFILL
        self._spent, self._spent_at = max(0.0, self._spent - refilled) + count, now
        return self._spent <= MAX_LINES

    def _break(self, reason: str) -> None:
        self.broken, self.closed, self._buffer = reason, True, b""

    def take_fds(self, count: int) -> list[int]:
        """Return the first ``count`` descriptors received; the caller owns them."""
        fds, self._fds = self._fds[:count], self._fds[count:]
        return fds

    def close(self) -> None:
        """Close this end; the other one reads EOF."""
        self.closed = True
        self._sock.close()


def _parse(line: bytes) -> tuple[Message, str]:
    """Return the message and its text; raises ValueError for anything else."""
    if len(line) > MAX_LINE:
        raise ValueError("too long")
    try:
        message, text = json.loads(line)
        if isinstance(text, str):
            return Message(message), text[:MAX_TEXT]
    except (TypeError, RecursionError):
        pass
    raise ValueError("not a message")
