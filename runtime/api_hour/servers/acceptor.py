"""Accepts connections on listening sockets, a few in each turn of the loop; knows no protocol.

Theory of operation
===================

All workers watch the same listening socket (or, with ``balance: slots``, each its own). Three rules
decide how many of the connections in the kernel's queue this worker takes, and when.

**Fair.** asyncio's servers accept up to ``backlog`` connections in one turn, so the worker that
wakes up first takes a whole burst, while the others find the queue empty. This one takes a single
connection in a turn. A worker that is idle comes back at once; a busy one comes back when it has
served its connections, so it takes fewer.

**Soon.** One a turn would make the last of 400 connections wait for 400 turns. So each turn that
finds as many connections as it may take allows one more in the next: 1, 2, 3, ... A turn that finds
fewer starts again at one, and so does the first after ``BURST_GAP`` seconds of silence.

**Bounded.** At ``limit`` open connections, the acceptor stops watching its sockets. Connections
then wait in the kernel's queue, where another worker may take them. The same happens for
``EXHAUSTED_PAUSE`` seconds when the process runs out of descriptors or memory: a readable socket
that cannot be accepted would otherwise keep the loop spinning.

States
------

The sockets are either watched (``_watching``: the loop calls ``_on_readable``) or not. They are
not watched while the acceptor is full, and while it pauses (``_pause_timer`` is set). ``_watch()``
does nothing while one of these holds, so whatever ends one of them simply calls it: ``release()``
when a connection has ended, the timer when the pause is over. After ``close()`` there are no
sockets left to watch.

``_open`` counts a connection from accept to ``release()``. Between the two, ``_serve`` makes the
transport; with TLS that includes the handshake, which may fail before the protocol exists. Then
``_serve`` itself releases it. In every other case the protocol's owner does, in
``connection_lost``.

With ``proxies``, ``_serve`` first reads the header of the PROXY protocol, from trusted proxies
only, and gives the factory the addresses that it names.

``close()`` takes what the queue holds by then, because the kernel has completed those connections
and their clients may have sent a request already. It closes this worker's copy of the socket; the
master's stays open, and so does the queue.
"""

import asyncio
import contextlib
import errno
import functools
import logging
import socket
import ssl
from collections.abc import Callable
from typing import cast

from api_hour.exceptions import ConfigError
from api_hour.logs import rate_limit
from api_hour.servers import proxy_protocol
from api_hour.servers.networks import Networks

BURST_GAP = 1.0  # seconds without a connection after which the next ones are a new burst
EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
EXHAUSTED_PAUSE = 0.5  # seconds without accepting after one of these
HANDSHAKE_TIMEOUT = 10.0  # seconds for TLS, and for the PROXY protocol before it
BEGIN_GRACE = 1.0  # seconds that a drain waits for them before it tells the others
log = logging.getLogger(__name__)
rate_limit.limit("asyncio", __name__)  # anybody may connect, again and again


class Acceptor:
    """Gives each connection of its sockets a protocol; at most ``limit`` are open at once.

    ``limit`` 0 means no limit. With ``proxies`` each connection begins with the PROXY protocol, and
    ``factory`` is called with the ``Addresses`` of its header, if it has any. ``on_refusal`` is
    called for each connection that ends without a protocol. Whoever owns the protocols calls
    ``release()`` for each connection that has ended.
    """

    def __init__(
        self,
        factory: Callable[..., asyncio.BaseProtocol],
        *,
        tls: ssl.SSLContext | None = None,
        limit: int = 0,
        proxies: Networks | None = None,
        on_refusal: Callable[[], None] | None = None,
    ) -> None:
        self._factory, self._tls, self._limit = factory, tls, limit
        self._proxies, self._on_refusal = proxies, on_refusal
        self._loop = asyncio.get_running_loop()
        self._sockets: list[socket.socket] = []
        self._starting: set[asyncio.Task[None]] = set()
        self._open = 0
        self._empty = asyncio.Event()
        self._empty.set()
        self._watching = False
        self._allowed = 1  # connections in the next turn
        self._last_turn = 0.0  # when sockets were readable
        self._pause_timer: asyncio.TimerHandle | None = None

    def add(self, sock: socket.socket) -> None:
        """Accept on ``sock`` too, and close it with the others.

        Raises ConfigError for a socket of datagrams.
        """
        if sock.type != socket.SOCK_STREAM:
            raise ConfigError(
                f"{sock.getsockname()} carries datagrams, and its server wants connections: give "
                "the listener a tcp:// or unix: address"
            )
        self._unwatch()
        self._sockets.append(sock)
        self._watch()

    def release(self) -> None:
        """Note that a connection has ended."""
        self._open -= 1
        if not self._open:
            self._empty.set()
        self._watch()

    @property
    def open(self) -> int:
        """Return the number of connections, with those that have not begun to be served."""
        return self._open

    async def close(self) -> None:
        """Accept what is queued by now, then close the sockets.

        Connections that have no protocol yet have ``BEGIN_GRACE`` seconds to get one.
        """
        if self._pause_timer:
            self._pause_timer.cancel()
        self._unwatch()
        for sock in self._sockets:
            while self._accept_one(sock):
                pass
            sock.close()
        self._sockets.clear()
        if self._starting:
            await asyncio.wait(self._starting, timeout=BEGIN_GRACE)

    def give_up(self) -> None:
        """Close the connections that have not begun to be served: TLS or a header is missing."""
        for task in self._starting:
            task.cancel()

    async def emptied(self, until: float) -> None:
        """Wait until no connection is open, at most until ``until`` (``loop.time()``)."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await self._empty.wait()

    def _on_readable(self, sock: socket.socket) -> None:
        now, last = self._loop.time(), self._last_turn
        self._last_turn = now
        self._allowed = 1 if now - last > BURST_GAP else self._allowed
        took_all = all(self._accept_one(sock) for _ in range(self._allowed))
        self._allowed = self._allowed + 1 if took_all else 1
        if self._full():
            self._unwatch()

    def _accept_one(self, sock: socket.socket) -> bool:
        """Accept one connection; return whether there was one and another may follow."""
        if self._full():
            return False
        try:
            connection, _ = sock.accept()
        except (BlockingIOError, InterruptedError):  # another worker was quicker
            return False
        except ConnectionAbortedError:  # its client has left already
            return True
        except OSError as error:
            if error.errno not in EXHAUSTED:
                raise
            self._pause_after_emfile(error)
            return False
        connection.setblocking(False)
        self._open += 1
        self._empty.clear()
        task = self._loop.create_task(self._serve(connection))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)
        return True

    async def _serve(self, connection: socket.socket) -> None:
        timeout = HANDSHAKE_TIMEOUT if self._tls else None
        try:
            factory = self._factory if self._proxies is None else await self._proxied(connection)
            await self._loop.connect_accepted_socket(
                factory, connection, ssl=self._tls, ssl_handshake_timeout=timeout
            )
        except BaseException as error:
            connection.close()
            self.release()
            if not isinstance(error, OSError | asyncio.CancelledError):
                raise  # a factory of the project's own failed
            # A peer that left, is too slow, or speaks neither TLS nor the PROXY protocol.
            if self._on_refusal is not None:
                self._on_refusal()
            log.debug("A connection ended before it began: %r", error)

    async def _proxied(self, connection: socket.socket) -> Callable[[], asyncio.BaseProtocol]:
        """Return the factory of a connection that begins with the PROXY protocol.

        Raises OSError if it does not, or does not come from a trusted proxy.
        """
        name = connection.getpeername()
        peer = str(name[0] if isinstance(name, tuple) else name)
        try:
            if not cast(Networks, self._proxies).trusts(peer):
                raise proxy_protocol.ProxyProtocolError("it is not one of trusted_proxies")
            async with asyncio.timeout(HANDSHAKE_TIMEOUT):
                addresses = await proxy_protocol.read(connection)
        except OSError as error:
            log.warning("Refused a connection of %s (proxy_protocol): %r", peer or "unix", error)
            raise
        return self._factory if addresses is None else functools.partial(self._factory, addresses)

    def _full(self) -> bool:
        return bool(self._limit) and self._open >= self._limit

    def _unwatch(self) -> None:
        if self._watching:
            self._watching = False
            for sock in self._sockets:
                self._loop.remove_reader(sock)

    def _watch(self) -> None:
        if not (self._watching or self._full() or self._pause_timer):
            self._watching = True
            for sock in self._sockets:
                self._loop.add_reader(sock, self._on_readable, sock)

    def _pause_after_emfile(self, error: OSError) -> None:
        log.error("Cannot accept for now: %s; raise the limit of open files (ulimit -n)", error)
        self._unwatch()
        self._pause_timer = self._loop.call_later(EXHAUSTED_PAUSE, self._end_pause)

    def _end_pause(self) -> None:
        self._pause_timer = None
        self._watch()
