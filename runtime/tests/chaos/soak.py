"""Serve mixed traffic for long, reload and kill on the way, and see that nothing grows or is lost.

``make soak`` runs it for half an hour; the tests run a short form. Two workers serve clients that
keep their connection, clients that open one for each request, slow readers, senders that leave in
mid-body, streams, WebSockets, threads, and endpoints that fail. HUP comes every ``hup`` seconds and
kill -9 of a worker every ``kill`` seconds. Only a request that was in flight at a kill may be lost.

A worker lives no longer than from one HUP to the next, so memory and descriptors are compared
between the first and the last third of the time: of the master, and of both workers together, in
the moments in which no other worker boots or drains.
"""

import argparse
import asyncio
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import aiohttp

from testkit.load import Load, Outcome, Profile
from testkit.processes import Daemon, session
from testkit.waiting import TIMEOUT

APPLICATION = Path(__file__).parents[3] / "testkit" / "soak_app.py"
WORKERS = 2
WINDOW = 3.0  # seconds of drain_idle
GRACE = 10.0  # seconds of graceful_timeout
SAMPLE = 2.0  # seconds between two looks at the processes
DOWNLOAD = 1_000_000  # bytes that a slow reader asks for
SIP = 32_768  # bytes that it reads at a time
PIECES = 20  # of a stream
NOTICE = 5.0  # seconds until the client of a killed worker knows, on a busy machine
GROWTH = 1.15  # that the last third may have over the first
SLACK = {"rss": 8.0, "fds": 6.0, "threads": 2.0}  # that counts as level on top of it (MiB for rss)


@dataclass(frozen=True)
class Form:
    """How long, and how often what happens; in seconds."""

    seconds: float
    hup: float
    kill: float
    rate: float = 100.0  # requests a second of the plain clients
    loop: str = "auto"


FULL = Form(seconds=1800.0, hup=20.0, kill=60.0)
SHORT = Form(seconds=24.0, hup=6.0, kill=15.0)


@dataclass
class Account:
    """The requests of one kind: how many were answered, and when and how the others ended."""

    answered: int = 0
    lost: list[tuple[float, str]] = field(default_factory=list)


@dataclass
class Sample:
    """The processes at one moment; ``rss`` in MiB."""

    master: dict[str, float]
    workers: list[dict[str, float]]


class Companions:
    """Clients of every kind that ``testkit.load`` does not have, in a thread of their own."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.accounts: dict[str, Account] = {}
        self._stays = cycle((0.0, 0.3, 1.0))  # seconds between half a body and the client's leave
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def start(self) -> None:
        """Start the clients."""
        self._thread.start()

    def stop(self) -> None:
        """Let every client end what it has begun."""
        self._stopping.set()
        self._thread.join(TIMEOUT)
        assert not self._thread.is_alive(), "a client hangs"

    async def _run(self) -> None:
        kinds: dict[str, tuple[int, Callable[[], Awaitable[int]]]] = {
            "slow reader": (3, self._read_slowly),
            "left in mid-body": (2, self._leave_in_mid_body),
            "stream": (3, self._follow_stream),
            "WebSocket": (4, self._talk),
            "failing endpoint": (2, self._meet_failure),
            "thread": (2, self._ask_thread),
        }
        session = aiohttp.ClientSession(f"http://127.0.0.1:{self.port}")
        async with session as self._session, asyncio.TaskGroup() as group:
            for name, (count, ask) in kinds.items():
                self.accounts[name] = Account()
                for _ in range(count):
                    group.create_task(self._repeat(self.accounts[name], ask))

    async def _repeat(self, account: Account, ask: Callable[[], Awaitable[int]]) -> None:
        """Ask again and again, and keep the account; ``ask`` returns what was answered."""
        while not self._stopping.is_set():
            try:
                async with asyncio.timeout(TIMEOUT):
                    account.answered += await ask()
            except (OSError, EOFError, TimeoutError, aiohttp.ClientError, AssertionError) as error:
                how = f"{type(error).__name__}: {error}"
                account.lost.append((time.monotonic(), how))
            await asyncio.sleep(0.1)

    async def _read_slowly(self) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=SIP)
        try:
            query = f"/work?id=slow&size={DOWNLOAD}"
            writer.write(
                f"GET {query} HTTP/1.1\r\nHost: soak\r\nConnection: close\r\n\r\n".encode()
            )
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 "), head[:80]
            left = DOWNLOAD
            while left:
                left -= len(await reader.readexactly(min(SIP, left)))
                await asyncio.sleep(0.05)
            return 1
        finally:
            await _close(writer)

    async def _leave_in_mid_body(self) -> int:
        _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            head = "POST /work?id=half HTTP/1.1\r\nHost: soak\r\nContent-Length: 20000\r\n\r\n"
            writer.write(head.encode() + b"." * 10_000)
            await writer.drain()
            await asyncio.sleep(next(self._stays))
            return 1  # whatever the server does, there is nobody left to tell
        finally:
            await _close(writer)

    async def _follow_stream(self) -> int:
        async with self._session.get("/stream", params={"pieces": PIECES}) as response:
            size = len(await response.read())
            assert size == PIECES * 1000, f"{size} bytes"
            return 1

    async def _talk(self) -> int:
        """Send numbered messages until the server closes; each must come back."""
        answered = 0
        async with self._session.ws_connect("/echo") as socket:
            while not self._stopping.is_set():
                with suppress(aiohttp.ClientConnectionResetError):  # the next receive() says why
                    await socket.send_str(str(answered))
                message = await socket.receive()
                if message.type is not aiohttp.WSMsgType.TEXT:
                    # What is sent at the moment of the close frame is not answered any more.
                    assert message.data == aiohttp.WSCloseCode.SERVICE_RESTART, (
                        f"closed by {message}"
                    )
                    break
                assert message.data == str(answered), f"{message.data} for {answered}"
                answered += 1
                await asyncio.sleep(0.2)
        return answered

    async def _meet_failure(self) -> int:
        async with self._session.get("/fail") as response:
            assert response.status == 500, response.status
            await response.read()
            return 1

    async def _ask_thread(self) -> int:
        async with self._session.get("/threaded") as response:
            assert await response.text() == "threaded"
            return 1


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


class Soak:
    """One run: the daemon, its clients, what happened to it, and its processes over time."""

    def __init__(self, daemon: Daemon, form: Form) -> None:
        self.daemon, self.form = daemon, form
        self.begun = 0.0
        self.kills: list[float] = []
        self.reloads = 0
        self.samples: list[Sample] = []
        profile = Profile(keepalive=12, fresh=4, rate=form.rate, timeout=TIMEOUT)
        self.load = Load("soak", daemon.port(), profile, WINDOW)
        self.companions = Companions(daemon.port())

    def run(self) -> None:
        """Let everything happen; at the end the clients have their last answers."""
        with self._clients():
            begun = self.begun = time.monotonic()
            hup, kill = begun + self.form.hup, begun + self.form.kill * 0.75
            while (now := time.monotonic()) < begun + self.form.seconds:
                if now >= hup:
                    self.daemon.send(signal.SIGHUP)
                    self.reloads += 1
                    hup += self.form.hup
                if now >= kill:
                    self._kill_one()
                    kill += self.form.kill
                self.samples.append(self._sample())
                time.sleep(SAMPLE)

    @contextmanager
    def _clients(self) -> Iterator[None]:
        self.load.start()
        self.companions.start()
        try:
            yield
        finally:
            self.load.stop()
            self.companions.stop()

    def _kill_one(self) -> None:
        now = time.monotonic()  # before the kill: a client may notice it before this thread goes on
        with suppress(ProcessLookupError):  # it has left in this moment
            os.kill(self.daemon.workers()[-1], signal.SIGKILL)  # the youngest: it has most to do
            self.kills.append(now)

    def _sample(self) -> Sample:
        pids = session(self.daemon.pid)
        found = {pid: figures for pid in pids if (figures := _figures(pid))}
        master = found.pop(self.daemon.pid)
        return Sample(master, list(found.values()))

    def losses(self) -> list[str]:
        """Return what was lost without a kill."""
        lost = [f"{name}: {how}" for name, account in self.accounts() for how in self._own(account)]
        return [f"{count} times {how}" for how, count in Counter(lost).items()]

    def growth(self) -> list[str]:
        """Return what has grown."""
        return [
            f"{name} has grown from {first:.1f} to {last:.1f}"
            for name, first, last in self.levels()
            if last > first * GROWTH + SLACK[name.rpartition(" ")[2]]
        ]

    def _own(self, account: Account) -> Iterator[str]:
        """Yield what no kill explains."""
        for ended, how in account.lost:
            if not any(kill <= ended < kill + NOTICE for kill in self.kills):
                yield f"{how}, {ended - self.begun:.1f} s after the start"

    def accounts(self) -> Iterator[tuple[str, Account]]:
        """Yield the account of each kind of traffic."""
        good = (Outcome.ANSWERED, Outcome.RACED)
        for kept, name in ((True, "kept connection"), (False, "new connection")):
            records = [
                record
                for record in self.load.records
                if (record.client < self.load.profile.keepalive) is kept
            ]
            lost = [
                (record.ended, str(record.outcome))
                for record in records
                if record.outcome not in good
            ]
            yield name, Account(len(records) - len(lost), lost)
        yield from self.companions.accounts.items()

    def levels(self) -> list[tuple[str, float, float]]:
        """Return the median of each figure in the first and in the last third."""
        quiet = [sample for sample in self.samples if len(sample.workers) == WORKERS]
        third = max(1, len(quiet) // 3)
        parts = quiet[:third], quiet[-third:]
        rows = []
        for figure in SLACK:
            masters = [statistics.median(s.master[figure] for s in part) for part in parts]
            workers = [
                statistics.median(sum(w[figure] for w in s.workers) for s in part) for part in parts
            ]
            rows += [(f"master's {figure}", *masters), (f"workers' {figure}", *workers)]
        return rows  # type: ignore[return-value]

    def table(self) -> str:
        """Return the account of every kind, and the levels."""
        lines = [
            f"{self.form.seconds:.0f} s, {self.reloads} reloads, {len(self.kills)} kills",
            f"{'traffic':20} {'answered':>9} {'lost to kill -9':>16} {'lost otherwise':>15}",
        ]
        for name, account in self.accounts():
            own = len(list(self._own(account)))
            lost = len(account.lost) - own
            lines.append(f"{name:20} {account.answered:>9} {lost:>16} {own:>15}")
        lines.append(f"{'level':20} {'first third':>12} {'last third':>12}")
        lines += [f"{name:20} {first:>12.1f} {last:>12.1f}" for name, first, last in self.levels()]
        return "\n".join(lines)


def _figures(pid: int) -> dict[str, float] | None:
    """Return memory (MiB), descriptors and threads of a process; None if it has gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
        fields = dict(line.split(":", 1) for line in status)
        fds = len(os.listdir(f"/proc/{pid}/fd"))
        rss = int(fields["VmRSS"].split()[0]) / 1024
        return {"rss": rss, "fds": fds, "threads": int(fields["Threads"])}
    except (OSError, KeyError):
        return None


def soak(form: Form, folder: Path) -> Soak:
    """Run the daemon and its clients; raises AssertionError unless it stops cleanly at the end."""
    (folder / "hello.py").write_text(APPLICATION.read_text())
    daemon = Daemon(
        folder,
        *("hello:Container", "--listen", "http=tcp://127.0.0.1:0"),
        *("--workers", str(WORKERS), "--loop", form.loop, "--request-ids"),
        *("--drain-idle", str(WINDOW), "--graceful-timeout", f"{GRACE:.0f}"),
        *("--metrics", "--access-logfile", str(folder / "access.log")),
    )
    with daemon:
        result = Soak(daemon.ready(WORKERS), form)
        result.run()
        assert daemon.stop() == 0, "the exit code after TERM is not 0"
    return result


def main() -> int:
    """Return 1 if something was lost or has grown."""
    parser = argparse.ArgumentParser(prog="python -m runtime.tests.chaos.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=FULL.seconds / 60)
    parser.add_argument("--loop", default="auto", choices=("auto", "uvloop", "asyncio"))
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # leave no daemon behind
    form = Form(arguments.minutes * 60, FULL.hup, FULL.kill, loop=arguments.loop)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        result = soak(form, Path(folder))
    print(result.table())
    problems = [*result.losses(), *result.growth()]
    print("\n".join(problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
