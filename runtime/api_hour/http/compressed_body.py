"""Compressed bodies: inflated where an endpoint reads them, and nowhere else.

aiohttp inflates a body as it arrives, also one that was refused, and reads a refused one to its
end: a megabyte of gzip would keep the loop busy for seconds. Here the parser leaves bodies as they
are. What an endpoint reads is inflated piece by piece, and the loop goes on in between. Brotli and
Zstandard are refused, whether a package for them is installed or not: a hundred bytes make their
decoders take a window of many megabytes before they give the first.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from aiohttp import hdrs, web
from aiohttp.http_exceptions import ContentEncodingError
from aiohttp.http_parser import DeflateBuffer
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestPayloadError

CODINGS = "gzip", "deflate"
PIECE = 65536  # bytes: what is taken of the body at a time, and what one step makes of it
# The size of what was inflated in relation to what has arrived, as Apache's
# DeflateInflateRatioLimit. The first piece is free: short texts of one letter exceed it.
MAX_RATIO = 200


class _Unpaced:
    """The protocol of a reader that takes no more than what is asked for."""

    connected = True

    def pause_reading(self) -> None:
        """Do nothing."""

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Do nothing."""


_UNPACED: Any = _Unpaced()


class TooCompressed(web.HTTPRequestEntityTooLarge):
    """A body becomes much larger than what was sent."""

    def __init__(self) -> None:
        text = f"The body is inflated to more than {MAX_RATIO} times its size"
        super().__init__(max_size=0, actual_size=0, text=text)


class CompressedBody(StreamReader):
    """The inflated content of ``received``, a body as it arrives.

    How much has arrived, and what went wrong with it, is what ``received`` says: this is what time
    limits and errors are about. Only the content is inflated.
    """

    def __init__(self, received: StreamReader, coding: str) -> None:
        self._received = received
        super().__init__(_UNPACED, PIECE, loop=received._loop)
        self._coding = coding
        self._inflater: DeflateBuffer | None = None
        self._has_more = False  # to be inflated of what was taken

    async def _wait(self, func_name: str) -> None:
        """Inflate the next piece."""
        if self._has_more:
            await asyncio.sleep(0)
            taken = b""
        else:
            taken = await self._received.read(PIECE)
        if self._coding not in CODINGS:
            self._exception = web.HTTPUnsupportedMediaType(
                text=f"A body with Content-Encoding {self._coding} is not supported: "
                "send gzip or deflate",
                headers={hdrs.ACCEPT_ENCODING: ", ".join(CODINGS)},
            )
            raise self._exception
        try:
            if self._inflater is None:
                self._inflater = DeflateBuffer(self, self._coding, max_decompress_size=PIECE)
            if taken or self._has_more:
                self._has_more = self._inflater.feed_data(taken, len(taken))
            else:
                self._inflater.feed_eof()
        except ContentEncodingError as error:
            self._exception = RequestPayloadError(str(error))
            raise self._exception from error
        if self.total_bytes > max(PIECE, MAX_RATIO * (self.total_compressed_bytes or 0)):
            self._exception = TooCompressed()
            raise self._exception

    def set_read_chunk_size(self, n: int) -> None:
        """Do nothing: a larger piece would block the loop for longer."""

    @property
    def _waiter(self) -> "asyncio.Future[None] | None":
        return self._received._waiter

    @_waiter.setter
    def _waiter(self, waiter: object) -> None:
        pass

    @property
    def total_raw_bytes(self) -> int:
        """Return how many bytes have arrived."""
        return self._received.total_raw_bytes

    def is_eof(self) -> bool:
        """Return whether all of the body has arrived."""
        return self._received.is_eof()

    def on_eof(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once all of the body has arrived."""
        self._received.on_eof(callback)

    async def wait_eof(self) -> None:
        """Wait until all of the body has arrived."""
        await self._received.wait_eof()

    def exception(self) -> BaseException | None:
        """Return what the body fails with."""
        return self._exception or self._received.exception()

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        """Fail whoever reads, now and from now on."""
        self._exception = exc
        self._received.set_exception(exc, *cause)
