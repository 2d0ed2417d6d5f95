"""One connection of a client, which says exactly how a request on it was lost."""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

from testkit.http import END, Answer, get, parse, post

PAUSE = 0.005  # seconds between the two pieces of an upload


class Outcome(StrEnum):
    """Say what became of a request."""

    ANSWERED = "answered"
    REFUSED = "refused"
    RESET = "reset"
    TRUNCATED = "truncated"
    UNREAD = "closed unread"  # the connection was closed before any byte of the answer
    LATE = "late"  # no complete answer within the bound
    WRONG = "wrong"  # complete, but not the answer to this request
    RACED = "raced"  # idle for the whole drain window, then sent at the moment of the FIN


@dataclass(frozen=True, slots=True)
class Kind:
    """Describe a request: how long its handler takes, and what goes up and comes down."""

    name: str
    sleep: float = 0.0  # seconds
    size: int = 0  # bytes of the answer
    upload: int = 0  # bytes of the request's body, sent in two pieces


class LostError(Exception):
    """Carry the outcome of a request that was not answered."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome


class Line:
    """One connection of a client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.used = time.monotonic()

    @classmethod
    async def open(cls, port: int) -> "Line":
        """Connect; raises LostError when that is refused."""
        try:
            return cls(*await asyncio.open_connection("127.0.0.1", port))
        except ConnectionRefusedError:
            raise LostError(Outcome.REFUSED) from None
        except ConnectionError:
            raise LostError(Outcome.RESET) from None

    @property
    def gone(self) -> bool:
        """Tell whether the server has closed it: a careful client does not send any more."""
        return self._reader.at_eof() or self._reader.exception() is not None

    async def ask(self, ident: str, kind: Kind) -> Answer:
        """Send one request and read its answer; raises LostError."""
        try:
            await self._send(ident, kind)
            return await self._receive()
        except asyncio.IncompleteReadError as error:
            heard = Outcome.TRUNCATED if error.partial else Outcome.UNREAD
            raise LostError(heard) from None
        except ConnectionError:
            raise LostError(Outcome.RESET) from None

    async def _send(self, ident: str, kind: Kind) -> None:
        query = {"id": ident, "sleep": kind.sleep, "size": kind.size}
        if not kind.upload:
            self._writer.write(get("/work", **query))
            return
        request = post("/work", b"." * kind.upload, **query)
        self._writer.write(request[: kind.upload // 2])
        await asyncio.sleep(PAUSE)
        self._writer.write(request[kind.upload // 2 :])
        await self._writer.drain()

    async def _receive(self) -> Answer:
        status, headers = parse(await self._reader.readuntil(END))
        try:
            body = await self._reader.readexactly(int(headers["content-length"]))
        except asyncio.IncompleteReadError:
            raise LostError(Outcome.TRUNCATED) from None
        self.used = time.monotonic()
        return Answer(status, headers, body)

    async def close(self) -> None:
        """Close this end."""
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()
