"""Clients that account for every request: each record says what became of one.

A client retries nothing. It obeys ``Connection: close``, and it opens a new connection if the
server has sent its FIN before the client sends. HTTP/1.1 cannot avoid one race: a request sent at
the very moment of the FIN. It counts as lost by the server unless the connection was idle for the
whole drain window.
"""

import asyncio
import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from threading import Event
from typing import Self

from testkit.http import HEAD_END, Response, get, parse_head, post

PART_PAUSE = 0.005  # seconds between two parts of a request
HESITATION = 0.01  # seconds; a fresh client waits 0 to 3 of them between connecting and sending


class Outcome(StrEnum):
    """What became of a request."""

    ANSWERED = "answered"
    REFUSED = "refused"
    RESET = "reset"
    TRUNCATED = "truncated"
    UNREAD = "closed unread"  # the connection was closed before any byte of the response
    LATE = "late"  # no complete response within the timeout
    WRONG = "wrong"  # complete, but not the response to this request
    RACED = "raced"  # idle for the whole drain window, then sent at the moment of the FIN


class LostError(Exception):
    """A request was not answered; ``outcome`` says how it was lost."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of request: how long its handler takes, and the sizes of both bodies."""

    name: str
    sleep: float = 0.0  # seconds
    size: int = 0  # bytes of the response's body
    upload: int = 0  # bytes of the request's body

    def parts(self, ident: str) -> tuple[bytes, ...]:
        """Return a request in the parts that are sent one after the other."""
        query = {"id": ident, "sleep": self.sleep, "size": self.size}
        if not self.upload:
            return (get("/work", **query),)
        request = post("/work", b"." * self.upload, **query)
        return request[: self.upload // 2], request[self.upload // 2 :]

    def is_answered_by(self, response: Response, ident: str) -> bool:
        """Tell whether this is the response to the request."""
        return response.status == 200 and response.body == ident.encode().ljust(self.size, b".")


KINDS = (
    Kind("quick"),
    Kind("slow", sleep=0.2),
    Kind("quick"),
    Kind("large", size=200_000),
    Kind("quick"),
    Kind("upload", upload=20_000),
)


@dataclass(frozen=True)
class Profile:
    """How many clients send how much, and how long they wait."""

    keepalive: int = 16  # clients that keep their connection
    fresh: int = 4  # clients that open a connection for each request
    rate: float = 300.0  # requests a second, of all clients together
    timeout: float = 10.0  # seconds until a response is late
    kinds: tuple[Kind, ...] = KINDS  # what each client sends, in turn
    requests: float = math.inf  # that each client sends


@dataclass(frozen=True, slots=True)
class Record:
    """The account of one request; times by time.monotonic()."""

    ident: str
    client: int
    kind: Kind
    outcome: Outcome
    began: float
    ended: float
    idle: float  # seconds since the connection was last used; 0 for a fresh one
    slept: float  # seconds that client and handler waited on purpose
    worker: int = 0  # process id

    @property
    def latency(self) -> float:
        """Return the seconds from connecting to the end of the response, without the sleeps."""
        return self.ended - self.began - self.slept


@dataclass
class Load:
    """Clients that send to one port, in a thread of their own."""

    name: str
    port: int
    profile: Profile
    window: float  # seconds during which a draining worker still answers idle connections
    records: list[Record] = field(default_factory=list)
    drops: list[float] = field(default_factory=list)  # idle seconds of connections closed silently
    answered: int = 0
    stopping: Event = field(default_factory=Event)

    def start(self) -> None:
        """Start the clients."""
        self._executor = ThreadPoolExecutor(1, "load")
        self._future = self._executor.submit(asyncio.run, self._clients())

    def stop(self) -> None:
        """Let every client finish its last request; raises what a client raised."""
        self.stopping.set()
        self.wait()

    def wait(self) -> None:
        """Wait for the end of all clients; raises what a client raised."""
        self._executor.shutdown()
        self._future.result()

    def add(self, record: Record) -> None:
        """Keep a record."""
        self.records.append(record)
        self.answered += record.outcome is Outcome.ANSWERED

    async def _clients(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(self.profile.keepalive + self.profile.fresh):
                client = _Client(self, number, fresh=number >= self.profile.keepalive)
                group.create_task(client.run())


class _Client:
    """A client that sends at an even pace and has one request in flight at a time."""

    def __init__(self, load: Load, number: int, *, fresh: bool) -> None:
        self._load, self._number, self._fresh = load, number, fresh
        self._period = (load.profile.keepalive + load.profile.fresh) / load.profile.rate
        self._count = 0
        self._slept = 0.0  # seconds, during the request in flight
        self._connection: _Connection | None = None

    async def run(self) -> None:
        due = time.monotonic() + self._number / self._load.profile.rate
        while self._count < self._load.profile.requests and not self._load.stopping.is_set():
            await asyncio.sleep(due - time.monotonic())
            await self._send_and_record()
            due = max(due + self._period, time.monotonic())
        await self._close()

    async def _send_and_record(self) -> None:
        kinds = self._load.profile.kinds
        kind = kinds[(self._number + self._count) % len(kinds)]
        ident = f"{self._load.name}-{self._number}-{self._count}"
        self._count += 1
        idle = await self._idle_seconds()
        began = time.monotonic()
        outcome, worker = await self._outcome(ident, kind)
        if idle > self._load.window and outcome in (Outcome.UNREAD, Outcome.RESET):
            outcome = Outcome.RACED
        if self._fresh or outcome is not Outcome.ANSWERED:
            await self._close()
        times = (began, time.monotonic(), idle, self._slept + kind.sleep)
        self._load.add(Record(ident, self._number, kind, outcome, *times, worker))

    async def _idle_seconds(self) -> float:
        """Return how long the connection has been idle, 0 if the next request opens one."""
        if self._connection is None:
            return 0.0
        idle = time.monotonic() - self._connection.last_used
        if not self._connection.is_closed:
            return idle
        self._load.drops.append(idle)
        await self._close()
        return 0.0

    async def _outcome(self, ident: str, kind: Kind) -> tuple[Outcome, int]:
        """Send a request; return its outcome and the worker that answered."""
        try:
            async with asyncio.timeout(self._load.profile.timeout + kind.sleep):
                response = await self._ask(ident, kind)
        except LostError as lost:
            return lost.outcome, 0
        except TimeoutError:
            return Outcome.LATE, 0
        if response.closes:
            await self._close()
        right = kind.is_answered_by(response, ident)
        return Outcome.ANSWERED if right else Outcome.WRONG, response.worker

    async def _ask(self, ident: str, kind: Kind) -> Response:
        parts = kind.parts(ident)
        self._slept = PART_PAUSE * (len(parts) - 1)
        if self._connection is None:
            self._connection = await _Connection.open(self._load.port)
            if self._fresh:
                hesitation = self._count % 4 * HESITATION
                await asyncio.sleep(hesitation)
                self._slept += hesitation
        return await self._connection.ask(parts)

    async def _close(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None


class _Connection:
    """A connection of a client, which says exactly how a request on it was lost."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.last_used = time.monotonic()

    @classmethod
    async def open(cls, port: int) -> Self:
        """Connect; raises LostError if that fails."""
        try:
            return cls(*await asyncio.open_connection("127.0.0.1", port))
        except ConnectionRefusedError:
            raise LostError(Outcome.REFUSED) from None
        except ConnectionError:
            raise LostError(Outcome.RESET) from None

    @property
    def is_closed(self) -> bool:
        """Tell whether the server has closed it, so that a careful client does not send."""
        return self._reader.at_eof() or self._reader.exception() is not None

    async def ask(self, parts: Sequence[bytes]) -> Response:
        """Send a request and return its response; raises LostError."""
        try:
            await self._send(parts)
            return await self._receive()
        except asyncio.IncompleteReadError as error:
            outcome = Outcome.TRUNCATED if error.partial else Outcome.UNREAD
            raise LostError(outcome) from None
        except ConnectionError:
            raise LostError(Outcome.RESET) from None

    async def _send(self, parts: Sequence[bytes]) -> None:
        first, *others = parts
        self._writer.write(first)
        for part in others:
            await asyncio.sleep(PART_PAUSE)
            self._writer.write(part)
            await self._writer.drain()

    async def _receive(self) -> Response:
        status, headers = parse_head(await self._reader.readuntil(HEAD_END))
        try:
            body = await self._reader.readexactly(int(headers["content-length"]))
        except asyncio.IncompleteReadError:
            raise LostError(Outcome.TRUNCATED) from None
        self.last_used = time.monotonic()
        return Response(status, headers, body)

    async def close(self) -> None:
        """Close this end."""
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()
