"""Clients that post records, time each request, retry nothing and account for everything."""

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event
from time import monotonic

KEEPING = 4  # clients that keep their connection
FRESH = 2  # clients that open one for each request
PAUSE = 0.05  # seconds between two requests of a client
LATE = 30.0  # seconds; 2 of them were measured on two busy cores


@dataclass
class Account:
    """The outcome of every request."""

    kept: list[str] = field(default_factory=list)  # names of records that were answered 201
    lost: list[str] = field(default_factory=list)  # errors, one line each
    waits: list[float] = field(default_factory=list)  # seconds, connecting included

    @property
    def longest(self) -> float:
        """Return the seconds that the slowest request took."""
        return max(self.waits, default=0.0)


@contextmanager
def calling(port: int) -> Iterator[Account]:
    """Let the clients post records until the end of the block."""
    account, over = Account(), Event()
    with ThreadPoolExecutor(1) as thread:
        load = thread.submit(asyncio.run, _clients(port, account, over))
        try:
            yield account
        finally:
            over.set()
        load.result()


async def _clients(port: int, account: Account, over: Event) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(KEEPING + FRESH):
            client = _Client(port, number, fresh=number >= KEEPING)
            group.create_task(client.run(account, over))


class _Client:
    """One caller, with one request in flight at a time."""

    def __init__(self, port: int, number: int, *, fresh: bool) -> None:
        self._port, self._number, self._fresh = port, number, fresh
        self._line: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def run(self, account: Account, over: Event) -> None:
        count = 0
        while not over.is_set():
            name = f"{self._number}-{count}"
            count += 1
            await self._account(name, account)
            await asyncio.sleep(PAUSE)
        self._hang_up()

    async def _account(self, name: str, account: Account) -> None:
        begun = monotonic()
        try:
            async with asyncio.timeout(LATE):
                await self._post(name)
            account.kept.append(name)
        except (OSError, EOFError, AssertionError) as error:
            account.lost.append(f"{name} after {monotonic() - begun:.3f} s: {error!r}")
            self._hang_up()
        account.waits.append(monotonic() - begun)

    async def _post(self, name: str) -> None:
        """Send a record; raises when the answer is not the one to it."""
        if self._line is not None and self._line[0].at_eof():  # a careful client looks first
            self._hang_up()
        if self._line is None:
            self._line = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._line
        body = json.dumps({"name": name}).encode()
        head = "POST /records HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = answer.partition("content-length: ")[2].partition("\r\n")[0]
        content = await reader.readexactly(int(length or 0))
        if self._fresh or "\r\nconnection: close\r\n" in answer:
            self._hang_up()
        assert answer.startswith("http/1.1 201 "), answer + content.decode()
        assert json.loads(content)["name"] == name

    def _hang_up(self) -> None:
        if self._line is not None:
            self._line[1].close()
            self._line = None
