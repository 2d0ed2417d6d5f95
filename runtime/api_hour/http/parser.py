"""The parser: aiohttp's own, whose errors are answered in their turn.

aiohttp's parser raises at the first malformed byte. Then the requests before it in the same segment
are lost, whoever reads a half-received body waits for ever, and the answers depend on how the
network cut the bytes. Here ``feed_data`` never raises HttpProcessingError:

* the requests before the malformed one are returned, and after them one ``_ErrInfo``;
* a malformed body fails where it is read, by RequestPayloadError, so its request is answered;
* ``HTTP/1.2`` to ``1.9`` are parsed as 1.1 (RFC 9110, 2.5) for the methods of RFC 9110; other
  versions become a 505;
* nothing that follows a malformed request is parsed;
* the requests behind an upgrade that aiohttp ignores are kept: aiohttp drops what is left of the
  segment.

For the last, and for the versions, one has to know where a request begins, which the parser does
not tell. It is certain where the segment began between two requests or in the head of one, and none
of them has a body. Elsewhere, and when the queue of requests is full, the connection is closed
after the answer.

FastConnection calls aiohttp's ``feed_data`` itself, and ``go_on`` where that stopped early.
"""

import gc
import re
from collections.abc import Sequence
from typing import Any, cast

from aiohttp import http_exceptions
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser, RawRequestMessage
from aiohttp.http_writer import HttpVersion11
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import ERROR, MAX_MSG_QUEUE_SIZE, RequestPayloadError, _ErrInfo
from multidict import CIMultiDict, CIMultiDictProxy

Messages = Sequence[tuple[Any, StreamReader]]
# The messages, whether the last one is an upgrade, and what follows it.
Result = tuple[Messages, bool, bytes]

# What the request of a parse error is made of. aiohttp's has plain dictionaries instead of headers,
# and is answered with HTTP/1.0.
MALFORMED = ERROR._replace(
    version=HttpVersion11, headers=CIMultiDictProxy(CIMultiDict()), raw_headers=()
)
NOTHING: Result = ((), False, b"")
MAX_HEAD = 18000  # bytes of a head that are kept beside the parser
# Errors whose text repeats the client's bytes, and what is said instead.
REASONS: dict[type[HttpProcessingError], str] = {
    http_exceptions.BadHttpMethod: "Invalid method",
    http_exceptions.InvalidHeader: "Invalid header",
    http_exceptions.InvalidURLError: "Invalid request target",
    http_exceptions.LineTooLong: "Line too long",
}
# The request line of a newer minor version. Of these methods none is the end of another's name, so
# a line that begins like this is the whole line. The parser has refused it for its version alone.
NEWER = re.compile(
    rb"(?:GET|HEAD|POST|PUT|DELETE|OPTIONS|TRACE|CONNECT) [!-~]+ HTTP/1\.([2-9])\r?(?:\n|\Z)"
)
LEADING = re.compile(rb"[\r\n]*")  # before a request line
HEAD_END = re.compile(rb"\n\r?\n")


class Parser(HttpRequestParser):
    """aiohttp's parser of one connection.

    ``head`` is what has arrived of a request whose head is not complete, as far as that is known;
    ``body`` is that of the last request; once ``refused``, nothing more is parsed.
    """

    __slots__ = ("_options", "body", "head", "refused")

    def __init__(self, protocol: Any, loop: Any, limit: int, **options: Any) -> None:
        super().__init__(protocol, loop, limit, **options)
        self._options = loop, limit, options
        self.head = b""
        self.body: StreamReader = EMPTY_PAYLOAD
        self.refused = False

    def feed_data(self, data: bytes) -> Result:  # type: ignore[override]
        """Parse what has arrived; return the requests that it completes or begins."""
        if self.refused:
            return NOTHING
        between = self.body.is_eof()
        outcome = self._feed(data)
        if stopped_early(outcome):
            outcome = self.go_on(data, outcome, between)
        else:
            self.remember(data if between else b"", cast(Result, outcome)[0])
        messages, upgraded, tail = cast(Result, outcome)
        if messages:
            self.body = messages[-1][1]
        return messages, upgraded, tail

    def remember(self, data: bytes, messages: Messages) -> None:
        """Remember the head of a request that has only begun to arrive."""
        self.head = b"" if messages else self.head + data
        if len(self.head) > MAX_HEAD:  # the line and the end are enough; no line ends in between
            self.head = self.head[: MAX_HEAD // 2] + b"." + self.head[-3:]

    def go_on(self, data: bytes, outcome: Result | HttpProcessingError, between: bool) -> Result:
        """Return the outcome of all of ``data``, of which the parser has read the beginning.

        ``between``: the segment began between two requests, or in the head of one.
        """
        parsed: list[tuple[Any, StreamReader]] = []
        # What begins with a line's end may end a head of which the rest is not known.
        between = between and bool(self.head or data[:1] not in (b"\r", b"\n"))
        data, self.head = self.head + data, b""
        while stopped_early(outcome):
            messages = _held(self) if isinstance(outcome, HttpProcessingError) else outcome[0]
            parsed += messages
            certain = between and all(payload is EMPTY_PAYLOAD for _, payload in messages)
            start = _end_of_heads(data, len(messages)) if certain else None
            if isinstance(outcome, HttpProcessingError):
                newer = start is not None and is_of_version(outcome) and NEWER.match(data, start)
                if not newer or len(parsed) >= MAX_MSG_QUEUE_SIZE:  # nobody pipelines them
                    return self._refuse(parsed, outcome)
                data = data[newer.start() : newer.start(1)] + b"1" + data[newer.end(1) :]
                loop, limit, options = self._options
                super().__init__(self.protocol, loop, limit, **options)  # an error is for good
            elif start is None or len(messages) >= MAX_MSG_QUEUE_SIZE:  # the parser holds more
                message, payload = parsed[-1]
                parsed[-1] = message._replace(should_close=True), payload
                return parsed, False, b""
            else:
                data = data[start:]
            outcome = self._feed(data)
        messages, upgraded, tail = cast(Result, outcome)
        self.remember(data, messages)  # from where the parser went on
        return [*parsed, *messages], upgraded, tail

    def _feed(self, data: bytes) -> Result | HttpProcessingError:
        try:
            return cast(Result, super().feed_data(data))
        except HttpProcessingError as error:
            return error

    def _refuse(self, parsed: list[tuple[Any, StreamReader]], error: HttpProcessingError) -> Result:
        self.refused = True
        reason = REASONS.get(type(error)) or error.message.partition(":\n")[0]
        body = parsed[-1][1] if parsed else self.body
        if not body.is_eof():
            fail(body, RequestPayloadError(reason))
            return parsed, False, b""
        refusal = _ErrInfo(400, error, reason)
        if is_of_version(error):
            refusal = _ErrInfo(505, error, "HTTP Version Not Supported")
        return [*parsed, (refusal, EMPTY_PAYLOAD)], False, b""


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


def stopped_early(outcome: Result | HttpProcessingError) -> bool:
    """Return whether the parser has read less than it was given."""
    if isinstance(outcome, HttpProcessingError):
        return True
    messages, upgraded, _ = outcome
    return bool(messages) and bool(messages[-1][0].upgrade) and not upgraded


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


def _end_of_heads(data: bytes, count: int) -> int | None:
    """Return where the next request begins, after ``count`` heads."""
    start = LEADING.match(data).end()  # type: ignore[union-attr]
    for _ in range(count):
        end = HEAD_END.search(data, start)
        if end is None:
            return None
        start = LEADING.match(data, end.end()).end()  # type: ignore[union-attr]
    return start


def is_of_version(error: HttpProcessingError) -> bool:
    """Return whether the parser stopped at the version, or at the preface of HTTP/2."""
    return "Invalid HTTP version" in error.message or "PRI/Upgrade" in error.message
