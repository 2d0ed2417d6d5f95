"""Clients that account for every request: each record says what became of one.

A client retries nothing. It obeys ``Connection: close``, and it opens a new connection when the
FIN has come before it sends. The race that HTTP/1.1 cannot avoid, a request sent at the very moment
of the FIN, is a loss of the server's unless the connection was idle for the whole drain window.
"""

import asyncio
import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event

from testkit.http import Answer
from testkit.line import PAUSE, Kind, Line, LostError, Outcome

HESITATION = 0.01  # seconds; a fresh client waits 0 to 3 of them between connecting and asking

KINDS = (
    Kind("quick"),
    Kind("slow", sleep=0.2),
    Kind("quick"),
    Kind("large", size=200_000),
    Kind("quick"),
    Kind("upload", upload=20_000),
)


@dataclass(frozen=True, slots=True)
class Record:
    """Account for one request; times by time.monotonic()."""

    ident: str
    client: int
    kind: Kind
    outcome: Outcome
    began: float
    ended: float
    idle: float  # seconds without use of its connection before it was sent; 0 for a fresh one
    slept: float  # seconds that client and handler waited by intent
    worker: int = 0

    @property
    def latency(self) -> float:
        """Return the seconds that connecting, asking and answering took."""
        return self.ended - self.began - self.slept


@dataclass(frozen=True)
class Profile:
    """Say how much load, and how patient."""

    keepalive: int = 16  # clients
    fresh: int = 4  # clients that open a connection for each request
    rate: float = 300.0  # requests a second, of all clients together
    bound: float = 10.0  # seconds until an answer is late
    kinds: tuple[Kind, ...] = KINDS  # what each client asks for, in turn
    each: float = math.inf  # requests after which a client ends


@dataclass
class Load:
    """Run clients in a thread of their own against one port; ``window`` is the daemon's."""

    name: str
    port: int
    profile: Profile
    window: float  # seconds in which a draining worker answers idle connections
    records: list[Record] = field(default_factory=list)
    drops: list[float] = field(default_factory=list)  # idle seconds of lines closed without notice
    answered: int = 0
    stopping: Event = field(default_factory=Event)

    def start(self) -> None:
        """Let the clients begin."""
        self._executor = ThreadPoolExecutor(1, "load")
        self._future = self._executor.submit(asyncio.run, self._clients())

    def stop(self) -> None:
        """Let every client finish its last request; raises what a client failed of."""
        self.stopping.set()
        self.wait()

    def wait(self) -> None:
        """Wait until the clients have ended; raises what a client failed of."""
        self._executor.shutdown()
        self._future.result()

    def note(self, record: Record) -> None:
        """Keep a record."""
        self.records.append(record)
        self.answered += record.outcome is Outcome.ANSWERED

    async def _clients(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(self.profile.keepalive + self.profile.fresh):
                client = _Client(self, number, fresh=number >= self.profile.keepalive)
                group.create_task(client.run())


class _Client:
    """One caller, who asks at an even pace and has one request under way at a time."""

    def __init__(self, load: Load, number: int, *, fresh: bool) -> None:
        self._load, self._number, self._fresh = load, number, fresh
        self._period = (load.profile.keepalive + load.profile.fresh) / load.profile.rate
        self._count = 0
        self._slept = 0.0  # seconds, in the request under way
        self._line: Line | None = None

    async def run(self) -> None:
        due = time.monotonic() + self._number / self._load.profile.rate
        while self._count < self._load.profile.each and not self._load.stopping.is_set():
            await asyncio.sleep(due - time.monotonic())
            await self._account()
            due = max(due + self._period, time.monotonic())
        await self._hang_up()

    async def _account(self) -> None:
        """Ask once and write down what became of it."""
        kinds = self._load.profile.kinds
        kind = kinds[(self._number + self._count) % len(kinds)]
        ident = f"{self._load.name}-{self._number}-{self._count}"
        self._count += 1
        idle = await self._idle()
        began = time.monotonic()
        outcome, worker = await self._outcome(ident, kind)
        if idle > self._load.window and outcome in (Outcome.UNREAD, Outcome.RESET):
            outcome = Outcome.RACED
        if self._fresh or outcome is not Outcome.ANSWERED:
            await self._hang_up()
        times = (began, time.monotonic(), idle, self._slept + kind.sleep)
        self._load.note(Record(ident, self._number, kind, outcome, *times, worker))

    async def _idle(self) -> float:
        """Return how long the kept connection was unused; one that was closed is let go."""
        if self._line is None:
            return 0.0
        idle = time.monotonic() - self._line.used
        if not self._line.gone:
            return idle
        self._load.drops.append(idle)
        await self._hang_up()
        return 0.0

    async def _outcome(self, ident: str, kind: Kind) -> tuple[Outcome, int]:
        try:
            async with asyncio.timeout(self._load.profile.bound + kind.sleep):
                answer = await self._ask(ident, kind)
        except LostError as lost:
            return lost.outcome, 0
        except TimeoutError:
            return Outcome.LATE, 0
        right = answer.status == 200 and answer.body == ident.encode().ljust(kind.size, b".")
        if answer.closes:
            await self._hang_up()
        return Outcome.ANSWERED if right else Outcome.WRONG, answer.worker

    async def _ask(self, ident: str, kind: Kind) -> Answer:
        self._slept = PAUSE if kind.upload else 0.0
        if self._line is None:
            self._line = await Line.open(self._load.port)
            if self._fresh:
                hesitation = self._count % 4 * HESITATION
                await asyncio.sleep(hesitation)
                self._slept += hesitation
        return await self._line.ask(ident, kind)

    async def _hang_up(self) -> None:
        if self._line is not None:
            await self._line.close()
            self._line = None
