"""Each line answered in capitals, by a protocol class.

``api_hour protocols:Container`` in this folder; try it with ``nc 127.0.0.1 8007``. It does the same
as streams.py, without a task for each connection.
"""

import asyncio
from typing import cast

import api_hour

MAX_LINE = 65536  # bytes
WINDOW = 0.5  # seconds of a drain during which lines in transit are still answered


class Lines(asyncio.Protocol):
    """Answers until the peer ends or this worker drains; then says bye."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.rest = b""
        self.left = False

    def data_received(self, data: bytes) -> None:
        if self.left:
            return
        *lines, self.rest = (self.rest + data).split(b"\n")
        self.transport.writelines([line.upper() + b"\n" for line in lines])
        if len(self.rest) > MAX_LINE:
            self.transport.abort()

    def eof_received(self) -> bool:
        self.leave()
        return False  # both sides have ended: the transport may close

    def leave(self) -> None:
        """Say bye and end this side; the connection closes when the peer ends, too."""
        if not self.left:
            self.left = True
            self.transport.write(b"bye\n")
            self.transport.write_eof()

    # Backpressure: do not read from a peer that does not read its answers.
    def pause_writing(self) -> None:
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()


async def on_drain(server: api_hour.StreamServer) -> None:
    await asyncio.sleep(WINDOW)
    for transport in list(server.transports):
        cast(Lines, cast(asyncio.Transport, transport).get_protocol()).leave()


class Container(api_hour.Container):
    def servers(self) -> dict[str, api_hour.Server]:
        return {"lines": api_hour.StreamServer(Lines, on_drain=on_drain)}
