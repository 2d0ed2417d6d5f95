"""Answer each line in capitals, by a coroutine: ``api_hour streams:Container`` in this folder.

Try it with ``nc 127.0.0.1 8007``.
"""

import asyncio
from contextlib import suppress

import api_hour

WINDOW = 0.5  # seconds of a drain in which lines that are on their way are still answered


class Lines:
    """Answer until the peer, or this worker, leaves; then say bye."""

    def __init__(self) -> None:
        self.leaving = False
        self.waiting: set[asyncio.Timeout] = set()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(TimeoutError):
            while line := await self.next_line(reader):
                writer.write(line.upper())
                await writer.drain()
        writer.write(b"bye\n")
        writer.write_eof()
        # To close with bytes unread would reset the connection, and could erase the last answer.
        while await reader.read(65536):
            pass

    async def next_line(self, reader: asyncio.StreamReader) -> bytes:
        """Return a line, or nothing at the peer's end; raise TimeoutError at ours."""
        async with asyncio.timeout(0 if self.leaving else None) as patience:
            self.waiting.add(patience)
            try:
                return await reader.readline()
            finally:
                self.waiting.discard(patience)

    async def on_drain(self, server: api_hour.StreamServer) -> None:
        """End what waits for a line, never what is answering one."""
        await asyncio.sleep(WINDOW)
        self.leaving = True
        for patience in self.waiting:
            patience.reschedule(0)


class Container(api_hour.Container):
    def servers(self) -> dict[str, api_hour.Server]:
        lines = Lines()
        return {"lines": api_hour.StreamServer(lines.handle, on_drain=lines.on_drain)}
