"""The server of the listener ssh: a worker only needs its methods start() and drain()."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress

import api_hour
import asyncssh

WINDOW = 0.5  # seconds of a drain during which lines in transit are still stored
RESTART = "The service restarts: come again.\n"


class Shell:
    """Stores each typed line, and answers with its number."""

    def __init__(
        self, keep: Callable[[str, str], Awaitable[int]], *, host_key: str, authorized_keys: str
    ) -> None:
        self.keep = keep
        self.keys = {"server_host_keys": host_key, "authorized_client_keys": authorized_keys}
        self.acceptors: list[asyncssh.SSHAcceptor] = []
        self.peers: set[asyncssh.SSHServerConnection] = set()
        self.waiting: set[asyncio.Timeout] = set()
        self.leaving = False

    async def start(self, sock: socket.socket) -> None:
        """Accept on the master's socket."""
        listening = asyncssh.listen(
            sock=sock,
            server_factory=lambda: Peer(self.peers),
            process_factory=self.session,
            **self.keys,
        )
        self.acceptors.append(await listening)

    async def drain(self, deadline: float) -> None:
        """Stop accepting, end every session between two lines, and wait for the peers."""
        for acceptor in self.acceptors:
            acceptor.close()
        await asyncio.sleep(WINDOW)
        self.leaving = True
        for timeout in self.waiting:
            timeout.reschedule(0)
        with suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                await asyncio.gather(*(peer.wait_closed() for peer in self.peers))

    async def session(self, process: asyncssh.SSHServerProcess[str]) -> None:
        who = process.get_extra_info("username")
        try:
            while line := await self.next_line(process):
                process.stdout.write(f"{await self.keep(who, line.rstrip())}\n")
        except TimeoutError:
            process.stdout.write(RESTART)
        except api_hour.DatabaseError as error:
            process.stdout.write(f"Not kept: {error}\n")
        except asyncssh.BreakReceived:
            process.stdout.write("\n")  # Ctrl-C ends the session, as Ctrl-D does
        process.exit(0)

    async def next_line(self, process: asyncssh.SSHServerProcess[str]) -> str:
        """Return a line, empty if the peer has ended; raise TimeoutError at this worker's drain."""
        async with asyncio.timeout(0 if self.leaving else None) as timeout:
            self.waiting.add(timeout)
            try:
                return await read(process)
            finally:
                self.waiting.discard(timeout)


async def read(process: asyncssh.SSHServerProcess[str]) -> str:
    while True:
        with suppress(asyncssh.TerminalSizeChanged):
            return await process.stdin.readline()


class Peer(asyncssh.SSHServer):
    """Keeps the set of peers, from before the first key exchange to the end."""

    def __init__(self, peers: set[asyncssh.SSHServerConnection]) -> None:
        self.peers = peers

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self.conn = conn
        self.peers.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        self.peers.discard(self.conn)
