"""Time limits of connections, for any protocol: one timer for all that are slow, none for the rest.

A timer for each connection would cost every request. So a connection is watched only while it keeps
the server waiting, and one timer looks at all that are watched; while there are none, no timer
runs.

A loop that was blocked, or a machine that slept, is nobody's fault: the clock of a Watch counts at
most two periods between two looks. A peer is never cut off early, and at most two periods late.
"""

import asyncio
import contextlib
import fcntl
import socket
import struct
import sys
import termios
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

PERIOD = 1.0  # seconds between two looks; less for limits below four of them
BYTES_OF_INT = 4
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, for no seconds


class Watch(Generic[K, V]):
    """Things that may last ``limit`` seconds, and what is known of each; 0 means forever.

    A subclass decides in ``check``, and counts what it ended by ``on_strike``.
    """

    def __init__(self, limit: float, on_strike: Callable[[], None] | None = None) -> None:
        self.limit = limit
        self._on_strike = on_strike
        self._period = min(PERIOD, limit / 4)
        self._loop = asyncio.get_running_loop()
        self._watched: dict[K, V] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._looked = self._clock = self._loop.time()

    def __len__(self) -> int:
        return len(self._watched)

    def now(self) -> float:
        """Return the time from which the limit of something new counts."""
        if self._timer is None:
            return self._clock
        return self._clock + min(self._loop.time() - self._looked, self._period)

    def add(self, thing: K, known: V) -> None:
        """Watch ``thing``, unless there is no limit."""
        if not self.limit:
            return
        self._watched[thing] = known
        if self._timer is None:
            self._looked = self._loop.time()
            self._timer = self._loop.call_later(self._period, self._look)

    def discard(self, thing: K) -> None:
        """Watch ``thing`` no more."""
        self._watched.pop(thing, None)

    def close(self) -> None:
        """Watch nothing any more."""
        self._watched.clear()
        if self._timer is not None:
            self._timer.cancel()

    def check(self, thing: K, known: V, now: float) -> None:
        """Look at one thing: discard it, end it with ``strike``, or leave it for the next look."""
        raise NotImplementedError

    def strike(self, thing: K) -> None:
        """Note that the time of ``thing`` is over."""
        self.discard(thing)
        if self._on_strike is not None:
            self._on_strike()

    def _look(self) -> None:
        now = self._loop.time()
        self._clock += min(now - self._looked, 2 * self._period)
        self._looked = now
        for thing, known in list(self._watched.items()):
            self.check(thing, known, self._clock)
        self._timer = self._loop.call_later(self._period, self._look) if self._watched else None


class Sending:
    """How much a transport had not got rid of, and since when that is so."""

    __slots__ = ("since", "unsent")

    def __init__(self, since: float, unsent: int) -> None:
        self.since, self.unsent = since, unsent


class SendTimeout(Watch[asyncio.Transport, Sending]):
    """Aborts a connection whose peer reads nothing for ``limit`` seconds.

    What counts is progress: a slow peer may take as long as it likes. The kernel's own queue counts
    as unsent, because the transport's buffer moves only when a good part of that queue is free.
    """

    def watch(self, transport: asyncio.Transport | None) -> None:
        """Watch a transport until its buffer is empty."""
        if transport is not None and transport not in self._watched and _buffered(transport):
            self.add(transport, Sending(self.now(), _unsent(transport)))

    def check(self, transport: asyncio.Transport, sending: Sending, now: float) -> None:
        """Abort the transport if nothing has left it for too long."""
        if not _buffered(transport):
            self.discard(transport)
            return
        unsent = _unsent(transport)
        if unsent < sending.unsent:
            sending.since = now
        sending.unsent = unsent
        if now - sending.since >= self.limit:
            self.strike(transport)
            reset(transport)


def reset(transport: asyncio.Transport) -> None:
    """Abort a connection so that its peer sees an error: TCP's RST, and not an ordinary end.

    It also frees what the kernel still holds for the peer.
    """
    sock = transport.get_extra_info("socket")
    with contextlib.suppress(OSError, AttributeError):  # closed already
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    transport.abort()


def _unsent(transport: asyncio.Transport) -> int:
    """Return the bytes that the peer's kernel has not confirmed."""
    queued = bytes(BYTES_OF_INT)
    sock = transport.get_extra_info("socket")
    with contextlib.suppress(OSError, AttributeError):  # closed already
        queued = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, queued)
    return _buffered(transport) + int.from_bytes(queued, sys.byteorder)


def _buffered(transport: asyncio.Transport) -> int:
    """Return the bytes that a transport holds; none if it does not know any more."""
    with contextlib.suppress(AttributeError):  # asyncio's of TLS, when it was closed twice
        return transport.get_write_buffer_size()
    return 0
