"""The parser: aiohttp's own, whose errors are answered in their turn.

aiohttp's parser raises at the first malformed byte. Then the requests before it in the same segment
are lost, whoever reads a half-received body waits for ever, and the answers depend on how the
network cut the bytes. And it drops what is left of the segment behind an upgrade that it ignores.
Here ``feed_data`` never raises HttpProcessingError:

* the requests before the malformed one are returned, and after them one ``_ErrInfo``;
* a malformed body fails where it is read, by RequestPayloadError, so its request is answered;
* nothing that follows a malformed request is parsed;
* an upgrade that is ignored closes its connection, unless its head was certainly the end of the
  segment;
* ``HTTP/1.2`` to ``1.9`` are parsed as 1.1 (RFC 9110, 2.5), and the connection closes: for the
  methods of RFC 9110, where the segment begins with the request line and holds all of it. Any other
  version becomes a 505.

All of this is true of the parser in C. Without it, aiohttp's in Python serves as it is.
"""

import gc
import re
from collections.abc import Sequence
from typing import Any, cast

from aiohttp.http_exceptions import (
    BadHttpMethod,
    BadStatusLine,
    HttpProcessingError,
    InvalidHeader,
    InvalidURLError,
    LineTooLong,
)
from aiohttp.http_parser import HttpRequestParser, HttpRequestParserPy, RawRequestMessage
from aiohttp.http_writer import HttpVersion11
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import ERROR, MAX_MSG_QUEUE_SIZE, RequestPayloadError, _ErrInfo
from multidict import CIMultiDict, CIMultiDictProxy

Messages = Sequence[tuple[Any, StreamReader]]
# The messages, whether the last one is an upgrade, and what follows it.
Result = tuple[Messages, bool, bytes]

COMPILED = HttpRequestParser is not HttpRequestParserPy
# What the request of a parse error is made of. aiohttp's has plain dictionaries instead of headers,
# and is answered with HTTP/1.0.
MALFORMED = ERROR._replace(
    version=HttpVersion11, headers=CIMultiDictProxy(CIMultiDict()), raw_headers=()
)
NOTHING: Result = ((), False, b"")
BAD_VERSION = "Bad status line:\n  Invalid HTTP version"
# What is said of an error: its own text, up to where it repeats the client's bytes, unless it is
# one of these.
TEXTS = {
    BAD_VERSION: (505, "HTTP Version Not Supported"),
    "Pause on PRI/Upgrade": (505, "HTTP Version Not Supported"),
    "Too many headers received": (431, "Too many headers"),
}
TYPES: dict[type[BaseException], tuple[int, str]] = {
    BadHttpMethod: (400, "Invalid method"),
    BadStatusLine: (400, "Invalid request line"),
    InvalidHeader: (400, "Invalid header"),
    InvalidURLError: (400, "Invalid request target"),
    LineTooLong: (431, "Header too long"),
}
# The request line of a newer minor version. Of these methods none is the end of another's name, so
# a line that begins like this is the whole line. The parser has refused it for its version alone.
NEWER = re.compile(
    rb"[\r\n]*((?:GET|HEAD|POST|PUT|DELETE|OPTIONS|TRACE|CONNECT) [!-~]+ HTTP/1\.)[2-9](?=[\r\n])"
)
HEAD = re.compile(rb"(?:[^\r\n][^\n]*\n)+\r\n")  # or the rest of one: lines, and an empty one


class Parser(HttpRequestParser):
    """aiohttp's parser of one connection.

    ``body`` is that of the last request; once ``refused``, nothing more is parsed.
    """

    __slots__ = ("body", "refused")

    def __init__(self, connection: Any) -> None:
        self.body: StreamReader = EMPTY_PAYLOAD
        self.refused = False
        self._begin(connection)

    def _begin(self, connection: Any) -> None:
        super().__init__(
            connection,
            connection._loop,
            connection._read_bufsize,
            max_line_size=connection.max_line_size,
            max_field_size=connection.max_field_size,
            max_headers=connection.max_headers,
            payload_exception=RequestPayloadError,
            auto_decompress=False,  # by CompressedBody, where an endpoint reads it
            max_msg_queue_size=MAX_MSG_QUEUE_SIZE,
        )

    def feed_data(self, data: bytes) -> Result:  # type: ignore[override]
        """Parse what has arrived; return the requests that it completes or begins."""
        if self.refused:
            return NOTHING
        # With the queue full, the parser holds more than ``data``.
        between = self.body.is_eof() and not cast(Any, self.protocol)._buffer_paused
        return self.settle(data, self._feed(data), between)

    def settle(self, data: bytes, outcome: Result | HttpProcessingError, between: bool) -> Result:
        """Return what becomes of ``data``, which aiohttp's parser made ``outcome`` of.

        ``between``: the segment began between two requests, or in the head of one.
        """
        if isinstance(outcome, HttpProcessingError):
            outcome = self._recover(data, outcome, between)
        messages, upgraded, tail = outcome
        if messages:
            message, self.body = messages[-1]
            if type(message) is RawRequestMessage and message.upgrade and not upgraded:
                last = between and len(messages) == 1 and self.body is EMPTY_PAYLOAD
                if not (last and HEAD.fullmatch(data)):
                    messages = [*messages[:-1], (message._replace(should_close=True), self.body)]
        return messages, upgraded, tail

    def _feed(self, data: bytes) -> Result | HttpProcessingError:
        try:
            return cast(Result, super().feed_data(data))
        except HttpProcessingError as error:
            return error

    def _recover(self, data: bytes, error: HttpProcessingError, between: bool) -> Result:
        messages = _held(self)
        if between and not messages and _text(error) == BAD_VERSION and (line := NEWER.match(data)):
            self._begin(self.protocol)  # an error is for good
            outcome = self._feed(line[1] + b"1\r\nConnection: close" + data[line.end() :])
            if not isinstance(outcome, HttpProcessingError):
                return outcome
            messages, error = _held(self), outcome
        self.refused = True
        body = messages[-1][1] if messages else self.body
        if body.is_eof():
            messages.append((_ErrInfo(400, error, error.message), EMPTY_PAYLOAD))
        else:
            fail(body, RequestPayloadError(answer_to(error)[1]))
        return messages, False, b""


def fail(body: StreamReader, error: Exception) -> None:
    """Make whoever reads a body fail.

    A reader that has just been woken looks for more bytes, and not for an error, before it waits
    again. So the error is set now, for those who begin to read, and once more when it waits.
    """

    def again() -> None:
        if body.exception() is error:
            body.set_exception(error)

    body.set_exception(error)
    body._loop.call_soon(again)


def _held(parser: HttpRequestParser) -> list[tuple[Any, StreamReader]]:
    """Return the messages that a parser still holds after an error.

    Nothing but the garbage collector can look into the parser, which is compiled.
    """
    for held in gc.get_referents(parser):
        if type(held) is list and held and type(held[0]) is tuple:
            message = held[0][0]
            if type(message) is RawRequestMessage:
                return list(held)
    return []


def answer_to(error: HttpProcessingError) -> tuple[int, str]:
    """Return the status and the text of the answer to a malformed request."""
    if type(error) is LineTooLong and isinstance(error.args[0], bytearray):  # that of a target
        return 414, "Request target too long"
    text = _text(error)
    return TEXTS.get(text) or TYPES.get(type(error)) or (400, text)


def _text(error: HttpProcessingError) -> str:
    return error.message.partition(":\n\n")[0]
