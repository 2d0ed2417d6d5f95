"""Accept connections on listening sockets, few a turn; knows no protocol.

Event loops accept a whole burst in one turn, so that one worker may take all of it. One connection
a turn, and one more in the next as long as each turn takes all it may, lets every worker that is
awake have its share, and a busy one have less; yet nobody waits for long.
"""

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
from collections.abc import Callable

PAUSE = 0.5  # seconds without accepting when the process has no descriptor left
EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
QUIET = 1.0  # seconds without a connection after which the next ones are a new burst
HANDSHAKE = 10.0  # seconds for a TLS handshake
log = logging.getLogger(__name__)


class Acceptor:
    """Give every connection of some sockets to a protocol; at most ``limit`` are open at once.

    Above the limit connections wait in the kernel's queue. The protocol's owner calls
    ``release()`` for each connection that has ended.
    """

    def __init__(
        self,
        factory: Callable[[], asyncio.BaseProtocol],
        *,
        tls: ssl.SSLContext | None = None,
        limit: int = 0,
    ) -> None:
        self._factory, self._tls, self._limit = factory, tls, limit
        self._loop = asyncio.get_running_loop()
        self._sockets: list[socket.socket] = []
        self._starting: set[asyncio.Task[None]] = set()
        self._open = 0
        self._empty = asyncio.Event()
        self._empty.set()
        self._reading = False
        self._pace = 1  # connections in the next turn
        self._last = 0.0  # when one was accepted
        self._wake: asyncio.TimerHandle | None = None

    def add(self, sock: socket.socket) -> None:
        """Accept on ``sock`` too, and close it with the rest."""
        self._pause()
        self._sockets.append(sock)
        self._resume()

    def release(self) -> None:
        """Count a connection off."""
        self._open -= 1
        if not self._open:
            self._empty.set()
        self._resume()

    async def close(self) -> None:
        """Accept what is queued by now, then close the sockets."""
        if self._wake:
            self._wake.cancel()
        self._pause()
        for sock in self._sockets:
            while self._take(sock):
                pass
            sock.close()
        self._sockets.clear()
        if self._starting:
            await asyncio.wait(self._starting)

    async def emptied(self, until: float) -> None:
        """Wait until no connection is open, at most until ``until`` (``loop.time()``)."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await self._empty.wait()

    def _accept(self, sock: socket.socket) -> None:
        now, last = self._loop.time(), self._last
        self._last = now
        self._pace = 1 if now - last > QUIET else self._pace
        taken = all(self._take(sock) for _ in range(self._pace))
        self._pace = self._pace + 1 if taken else 1
        if self._full():
            self._pause()

    def _take(self, sock: socket.socket) -> bool:
        """Accept one connection; return whether there was one and another may follow."""
        if self._full():
            return False
        try:
            connection, _ = sock.accept()
        except (BlockingIOError, InterruptedError):
            return False
        except ConnectionAbortedError:
            return True
        except OSError as error:
            if error.errno not in EXHAUSTED:
                raise
            self._rest(error)
            return False
        connection.setblocking(False)
        self._open += 1
        self._empty.clear()
        task = self._loop.create_task(self._serve(connection))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)
        return True

    async def _serve(self, connection: socket.socket) -> None:
        patience = HANDSHAKE if self._tls else None
        try:
            await self._loop.connect_accepted_socket(
                self._factory, connection, ssl=self._tls, ssl_handshake_timeout=patience
            )
        except (OSError, ssl.SSLError) as error:  # a peer that left or speaks no TLS
            log.debug("A connection ended before it began: %s", error)
            connection.close()
            self.release()

    def _full(self) -> bool:
        return bool(self._limit) and self._open >= self._limit

    def _pause(self) -> None:
        if self._reading:
            self._reading = False
            for sock in self._sockets:
                self._loop.remove_reader(sock)

    def _resume(self) -> None:
        if not (self._reading or self._full() or self._wake):
            self._reading = True
            for sock in self._sockets:
                self._loop.add_reader(sock, self._accept, sock)

    def _rest(self, error: OSError) -> None:
        """Stop for a while: a readable socket that cannot be accepted would keep the loop busy."""
        log.error("Cannot accept for now: %s; raise the limit of open files (ulimit -n)", error)
        self._pause()
        self._wake = self._loop.call_later(PAUSE, self._wake_up)

    def _wake_up(self) -> None:
        self._wake = None
        self._resume()
