"""Lines over TCP: each name that is sent is kept, and its id is the answer."""

import asyncio
from asyncio import StreamReader, StreamWriter

import api_hour

from .engines.postgresql import Pool
from .services import records


class Lines:
    """Answer lines until the peer, or this worker, leaves."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._waiting: set[asyncio.Timeout] = set()
        self._leaving = False

    async def handle(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Serve one connection."""
        while line := await self._next(reader):
            writer.write(await self._keep(line.decode(errors="replace").strip()))
            await writer.drain()

    async def on_drain(self, server: api_hour.StreamServer) -> None:
        """End what waits for a line, but nothing that is answering one."""
        self._leaving = True
        for patience in self._waiting:
            patience.reschedule(0)

    async def _keep(self, name: str) -> bytes:
        try:
            record = await records.create(self._pool, name[:200])
        except (api_hour.DatabaseError, records.NameTaken) as error:
            return f"error: {error}\n".encode()
        return f"{record.id}\n".encode()

    async def _next(self, reader: StreamReader) -> bytes:
        """Return a line; nothing at the peer's end, and nothing at ours."""
        try:
            async with asyncio.timeout(0 if self._leaving else None) as patience:
                self._waiting.add(patience)
                try:
                    return await reader.readline()
                finally:
                    self._waiting.discard(patience)
        except TimeoutError:
            return b""
