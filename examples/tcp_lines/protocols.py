"""Answer each line in capitals, by a protocol class: ``api_hour protocols:Container`` in this
folder.

Try it with ``nc 127.0.0.1 8007``. It does what streams.py does, without a task a connection.
"""

import asyncio
from typing import cast

import api_hour

LONGEST = 65536  # bytes of a line
WINDOW = 0.5  # seconds of a drain in which lines that are on their way are still answered


class Lines(asyncio.Protocol):
    """Answer until the peer, or this worker, leaves; then say bye."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.rest = b""
        self.left = False

    def data_received(self, data: bytes) -> None:
        if self.left:
            return
        *lines, self.rest = (self.rest + data).split(b"\n")
        self.transport.writelines([line.upper() + b"\n" for line in lines])
        if len(self.rest) > LONGEST:
            self.transport.abort()

    def eof_received(self) -> bool:
        self.leave()
        return False  # the transport may close, now that both sides have ended

    def leave(self) -> None:
        """Say bye and end this side; the peer's end closes the connection."""
        if not self.left:
            self.left = True
            self.transport.write(b"bye\n")
            self.transport.write_eof()

    # A peer that does not read its answers is not read either.
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
