"""Each line answered in capitals, by a coroutine: ``api_hour streams:Container`` in this folder.

Try it with ``nc 127.0.0.1 8007``.
"""

import asyncio
from contextlib import suppress

import api_hour

WINDOW = 0.5  # seconds of a drain during which lines in transit are still answered


class Lines:
    """Answers until the peer ends or this worker drains; then says bye."""

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
        # Closing with unread bytes would reset the connection, and the peer could lose the answer.
        while await reader.read(65536):
            pass

    async def next_line(self, reader: asyncio.StreamReader) -> bytes:
        """Return a line, empty if the peer has ended; raise TimeoutError at this worker's drain."""
        async with asyncio.timeout(0 if self.leaving else None) as timeout:
            self.waiting.add(timeout)
            try:
                return await reader.readline()
            finally:
                self.waiting.discard(timeout)

    async def on_drain(self, server: api_hour.StreamServer) -> None:
        """End the connections that wait for a line, never one that is being answered."""
        await asyncio.sleep(WINDOW)
        self.leaving = True
        for timeout in self.waiting:
            timeout.reschedule(0)


class Container(api_hour.Container):
    def servers(self) -> dict[str, api_hour.Server]:
        lines = Lines()
        return {"lines": api_hour.StreamServer(lines.handle, on_drain=lines.on_drain)}
