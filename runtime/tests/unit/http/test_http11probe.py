"""What RFC 9110 and 9112 ask of a server, by the names that Http11Probe gives its cases.

Each line is a request and the statuses with which it may be answered. ``CLOSE``: the connection may
end without an answer; ``WAIT``: it may stay open without one, until a time limit ends it. Nobody is
answered twice, and a connection is closed after a 400.
"""

import asyncio
import re
from collections.abc import Iterator

import pytest
from aiohttp import web

from testkit.wire import Peer, ours, request

CLOSE, WAIT = -1, 0
GOOD = tuple(range(200, 300))
BAD = 400, CLOSE
CODING = 400, 501, CLOSE
VERSION = 400, 505, CLOSE
LARGE = 400, 414, 431, CLOSE
GARBAGE = 400, CLOSE, WAIT
PARTIAL = 400, 408, CLOSE, WAIT
MAYBE = 400, *GOOD, CLOSE

Accepted = tuple[int, ...]
Cases = dict[str, tuple[bytes, Accepted]]


def get(*headers: str, target: str = "/", method: str = "GET", version: str = "1.1") -> bytes:
    return request(target, *headers, method=method, version=version)


def raw(*lines: bytes) -> bytes:
    return b"\r\n".join((*lines, b"", b""))


def post(*headers: str, body: bytes = b"hello") -> bytes:
    return request("/", *headers, method="POST") + body


def chunks(body: bytes, *headers: str) -> bytes:
    return post("Transfer-Encoding: chunked", *headers, body=body)


HOST = b"Host: test"
LONG = "A" * 100_000
END = b"0\r\n\r\n"

HEADS: Cases = {
    "COMP-BASELINE": (get(), GOOD),
    "RFC9110-5.6.2-SP-BEFORE-COLON": (get("X-Test : value"), (400,)),
    "RFC9112-5.1-OBS-FOLD": (get("X-Test: value", " more"), (400,)),
    "RFC9112-7.1-MISSING-HOST": (raw(b"GET / HTTP/1.1"), (400,)),
    "RFC9110-5.4-DUPLICATE-HOST": (get("Host: other"), (400,)),
    "COMP-DUPLICATE-HOST-SAME": (get("Host: test"), (400,)),
    "RFC9112-3-CR-ONLY-LINE-ENDING": (raw(b"GET / HTTP/1.1\rHost: test"), (400,)),
    "RFC9112-5-EMPTY-HEADER-NAME": (get(": value"), BAD),
    "RFC9112-5-INVALID-HEADER-NAME": (get("Bad[Name: value"), BAD),
    "RFC9112-5-HEADER-NO-COLON": (get("NoColon"), BAD),
    "COMP-WHITESPACE-BEFORE-HEADERS": (raw(b"GET / HTTP/1.1", b" ", HOST), BAD),
    "RFC9112-3-MISSING-TARGET": (raw(b"GET HTTP/1.1", HOST), BAD),
    "COMP-ASTERISK-WITH-GET": (get(target="*"), BAD),
    "COMP-HOST-WITH-USERINFO": (raw(b"GET / HTTP/1.1", b"Host: user@test"), BAD),
    "COMP-HOST-WITH-PATH": (raw(b"GET / HTTP/1.1", b"Host: test/path"), BAD),
    "COMP-HOST-EMPTY-VALUE": (raw(b"GET / HTTP/1.1", b"Host: "), BAD),
    "SMUG-MULTIPLE-HOST-COMMA": (raw(b"GET / HTTP/1.1", b"Host: test, other"), BAD),
    "COMP-VERSION-MISSING-MINOR": (get(version="1"), VERSION),
    "COMP-VERSION-LEADING-ZEROS": (get(version="01.01"), VERSION),
    "COMP-VERSION-WHITESPACE": (get(version="1. 1"), VERSION),
    "RFC9112-2.3-INVALID-VERSION": (get(version="9.9"), VERSION),
    "RFC9112-2.3-HTTP09-REQUEST": (b"GET /\r\n", GARBAGE),
    "COMP-HTTP12-VERSION": (get(version="1.2"), (*GOOD, 505)),
    "COMP-HTTP10-NO-HOST": (raw(b"GET / HTTP/1.0"), (400, *GOOD)),
    "COMP-LEADING-CRLF": (b"\r\n\r\n" + get(), GOOD),
    "RFC9112-3-MULTI-SP-REQUEST-LINE": (raw(b"GET  / HTTP/1.1", HOST), MAYBE),
    "RFC9112-3.2-FRAGMENT-IN-TARGET": (get(target="/#part"), MAYBE),
    "COMP-REQUEST-LINE-TAB": (raw(b"GET\t/\tHTTP/1.1", HOST), MAYBE),
    "COMP-METHOD-CONNECT": (get(target="test:443", method="CONNECT"), (400, 405, 501, CLOSE)),
    "COMP-METHOD-TRACE": (get(method="TRACE"), (405, 501)),
    "COMP-TRACE-WITH-BODY": (
        get("Content-Length: 5", method="TRACE") + b"hello", (400, 405, 501, CLOSE)),
    "COMP-METHOD-CASE": (get(method="get"), (400, 405, 501, CLOSE)),
    "COMP-OPTIONS-STAR": (get(target="*", method="OPTIONS"), GOOD),
    "COMP-ABSOLUTE-FORM": (get(target="http://test/"), GOOD),
    "RFC9112-2.2-BARE-LF-REQUEST-LINE": (raw(b"GET / HTTP/1.1\nHost: test"), MAYBE),
    "RFC9112-2.2-BARE-LF-HEADER": (raw(b"GET / HTTP/1.1", b"Host: test\nX-Test: value"), MAYBE),
    "COMP-EXPECT-UNKNOWN": (get("Expect: 200-maybe"), (417, *GOOD)),
    "COMP-UPGRADE-POST": (post("Connection: Upgrade", "Upgrade: websocket",
        "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Content-Length: 0", body=b""), (*GOOD, 400, 405, 426)),
    "COMP-UPGRADE-MISSING-CONN": (get("Upgrade: websocket", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), (*GOOD, 400, 426)),
    "COMP-UPGRADE-UNKNOWN": (get("Connection: Upgrade", "Upgrade: other/1"), (*GOOD, 400, 426)),
    "COMP-UPGRADE-INVALID-VER": (get("Connection: Upgrade", "Upgrade: websocket",
        "Sec-WebSocket-Version: 99", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        target="/websocket"), (400, 426)),
}  # fmt: skip

LENGTHS: Cases = {
    "RFC9112-6.1-CL-NON-NUMERIC": (post("Content-Length: abc", body=b""), BAD),
    "RFC9112-6.1-CL-PLUS-SIGN": (post("Content-Length: +5"), BAD),
    "SMUG-DUPLICATE-CL": (post("Content-Length: 5", "Content-Length: 10", body=b"ab" * 5), BAD),
    "SMUG-CL-COMMA-DIFFERENT": (post("Content-Length: 5, 10", body=b"ab" * 5), BAD),
    "SMUG-CL-COMMA-SAME": (post("Content-Length: 5, 5"), MAYBE),
    "SMUG-CL-NEGATIVE": (post("Content-Length: -1"), BAD),
    "SMUG-CL-NEGATIVE-ZERO": (post("Content-Length: -0", body=b""), BAD),
    "SMUG-CL-UNDERSCORE": (post("Content-Length: 1_0", body=b"ab" * 5), BAD),
    "SMUG-CL-OCTAL": (post("Content-Length: 0o5"), BAD),
    "SMUG-CL-HEX-PREFIX": (post("Content-Length: 0x5"), BAD),
    "SMUG-CL-INTERNAL-SPACE": (post("Content-Length: 1 0", body=b"ab" * 5), BAD),
    "SMUG-CL-LEADING-ZEROS": (post("Content-Length: 005"), MAYBE),
    "SMUG-CL-LEADING-ZEROS-OCTAL": (post("Content-Length: 0200", body=b"a" * 200), MAYBE),
    "SMUG-CL-DOUBLE-ZERO": (post("Content-Length: 00", body=b""), MAYBE),
    "SMUG-CL-TRAILING-SPACE": (post("Content-Length: 5 "), MAYBE),
    "SMUG-CL-EXTRA-LEADING-SP": (post("Content-Length:  5"), MAYBE),
    "MAL-CL-TAB-BEFORE-VALUE": (post("Content-Length:\t5"), MAYBE),
    "MAL-CL-EMPTY": (post("Content-Length:", body=b""), BAD),
    "MAL-CL-OVERFLOW": (post(f"Content-Length: {'9' * 20}", body=b""), BAD),
    "MAL-POST-CL-HUGE-NO-BODY": (post("Content-Length: 999999999", body=b""), (413, *PARTIAL)),
    "COMP-POST-CL-BODY": (post("Content-Length: 5"), GOOD),
    "COMP-POST-CL-ZERO": (post("Content-Length: 0", body=b""), GOOD),
    "COMP-POST-NO-CL-NO-TE": (post(body=b""), GOOD),
    "COMP-POST-CL-UNDERSEND": (post("Content-Length: 10"), PARTIAL),
    "COMP-GET-WITH-CL-BODY": (get("Content-Length: 5") + b"hello", MAYBE),
    "NORM-SP-BEFORE-COLON-CL": (post("Content-Length : 5", "Content-Length: 5"), BAD),
    "NORM-TAB-IN-NAME": (post("Content\tLength: 9", "Content-Length: 5"), BAD),
    "NORM-UNDERSCORE-CL": (post("Content_Length: 9", "Content-Length: 5"), MAYBE),
}

CODINGS: Cases = {
    "SMUG-TE-SP-BEFORE-COLON": (post("Transfer-Encoding : chunked", "Content-Length: 5"), BAD),
    "SMUG-TE-NOT-FINAL-CHUNKED": (post("Transfer-Encoding: chunked, gzip", body=END), CODING),
    "SMUG-TE-HTTP10": (get("Transfer-Encoding: chunked", method="POST", version="1.0") + END, BAD),
    "SMUG-TE-EMPTY-VALUE": (post("Transfer-Encoding: ", "Content-Length: 5"), CODING),
    "SMUG-TE-DUPLICATE-HEADERS": (chunks(END, "Transfer-Encoding: identity", "Content-Length: 5"),
                                  CODING),
    "SMUG-TE-IDENTITY": (post("Transfer-Encoding: identity", "Content-Length: 5"), CODING),
    "SMUG-TE-VTAB": (post("Transfer-Encoding: \x0bchunked", "Content-Length: 5"), CODING),
    "SMUG-TE-FORMFEED": (post("Transfer-Encoding: \x0cchunked", "Content-Length: 5"), CODING),
    "SMUG-TE-NULL": (post("Transfer-Encoding: chunked\x00", "Content-Length: 5"), CODING),
    "SMUG-TE-XCHUNKED": (post("Transfer-Encoding: xchunked", "Content-Length: 5"), CODING),
    "COMP-UNKNOWN-TE-501": (post("Transfer-Encoding: other"), CODING),
    "SMUG-TE-TRAILING-SPACE": (post("Transfer-Encoding: chunked ", "Content-Length: 5"), CODING),
    "SMUG-TE-OBS-FOLD": (post("Transfer-Encoding:", " chunked", "Content-Length: 5"), CODING),
    "SMUG-TE-DOUBLE-CHUNKED": (post("Transfer-Encoding: chunked, chunked", "Content-Length: 5"),
                               CODING),
    "SMUG-CL-TE-BOTH": (chunks(END, "Content-Length: 5"), BAD),
    "SMUG-CLTE-PIPELINE": (chunks(END, "Content-Length: 4"), BAD),
    "SMUG-TECL-PIPELINE": (chunks(END, "Content-Length: 30"), BAD),
    "SMUG-TE-CASE-MISMATCH": (post("Transfer-Encoding: Chunked", body=END), (400, *GOOD)),
    "SMUG-TE-TRAILING-COMMA": (post("Transfer-Encoding: chunked,", body=END), MAYBE),
    "SMUG-TE-LEADING-COMMA": (post("Transfer-Encoding: , chunked", body=END), MAYBE),
    "SMUG-TE-TAB-BEFORE-VALUE": (post("Transfer-Encoding:\tchunked", body=END), MAYBE),
    "SMUG-CHUNKED-WITH-PARAMS": (post("Transfer-Encoding: chunked;a=b", body=END), MAYBE),
    "SMUG-BARE-CR-HEADER-VALUE": (get("X-Test: one\rtwo"), BAD),
    "COMP-CHUNKED-BODY": (chunks(b"5\r\nhello\r\n" + END), GOOD),
    "COMP-CHUNKED-MULTI": (chunks(b"5\r\nhello\r\n6\r\n world\r\n" + END), GOOD),
    "COMP-CHUNKED-EMPTY": (chunks(END), GOOD),
    "COMP-CHUNKED-HEX-UPPERCASE": (chunks(b"A\r\nhellohello\r\n" + END), GOOD),
    "COMP-CHUNKED-TRAILER-VALID": (chunks(b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"), GOOD),
    "COMP-CHUNKED-EXTENSION": (chunks(b"5;a=b\r\nhello\r\n" + END), GOOD),
    "COMP-CHUNKED-NO-FINAL": (chunks(b"5\r\nhello\r\n"), PARTIAL),
    "SMUG-CHUNK-BARE-SEMICOLON": (chunks(b"5;\r\nhello\r\n" + END), BAD),
    "SMUG-CHUNK-HEX-PREFIX": (chunks(b"0x5\r\nhello\r\n" + END), BAD),
    "SMUG-CHUNK-UNDERSCORE": (chunks(b"1_0\r\nhellohello123456\r\n" + END), BAD),
    "SMUG-CHUNK-LEADING-SP": (chunks(b" 5\r\nhello\r\n" + END), BAD),
    "SMUG-CHUNK-MISSING-TRAILING-CRLF": (chunks(b"5\r\nhello" + END), BAD),
    "SMUG-CHUNK-SPILL": (chunks(b"5\r\nhello!!\r\n" + END), BAD),
    "SMUG-CHUNK-NEGATIVE": (chunks(b"-1\r\nhello\r\n" + END), BAD),
    "SMUG-CHUNK-EXT-CTRL": (chunks(b"5;a\x00b\r\nhello\r\n" + END), BAD),
    "SMUG-CHUNK-EXT-CR": (chunks(b"5;a\rb\r\nhello\r\n" + END), BAD),
    "SMUG-CHUNK-BARE-CR-TERM": (chunks(b"5\rhello\r\n" + END), BAD),
    "SMUG-CHUNK-EXT-LF": (chunks(b"5;a\nhello\r\n" + END), MAYBE),
    "SMUG-CHUNK-LF-TERM": (chunks(b"5\r\nhello\n" + END), MAYBE),
    "SMUG-CHUNK-LF-TRAILER": (chunks(b"5\r\nhello\r\n0\r\n\n"), MAYBE),
    "MAL-CHUNK-SIZE-OVERFLOW": (chunks(b"F" * 17 + b"\r\nhello\r\n" + END), BAD),
    "MAL-CHUNK-EXT-64K": (chunks(b"5;" + b"a" * 65536 + b"\r\nhello\r\n" + END), (431, *MAYBE)),
    "NORM-UNDERSCORE-TE": (post("Transfer_Encoding: chunked", "Content-Length: 5"), MAYBE),
}  # fmt: skip

MALFORMED: Cases = {
    "MAL-BINARY-GARBAGE": (bytes(range(255, -1, -1)), GARBAGE),
    "MAL-NUL-IN-URL": (get(target="/\0test"), BAD),
    "MAL-NON-ASCII-URL": (get(target="/café"), BAD),
    "MAL-URL-OVERLONG-UTF8": (raw(b"GET /\xc0\xaf HTTP/1.1", HOST), BAD),
    "MAL-URL-BACKSLASH": (get(target="/a\\b"), (404, *BAD)),
    "MAL-URL-PERCENT-NULL": (get(target="/%00"), (404, *BAD)),
    "MAL-URL-PERCENT-CRLF": (get(target="/%0d%0aX:%20y"), (404, *BAD)),
    "MAL-CONTROL-CHARS-HEADER": (get("X-Test: a\x07\x08\x0bb"), BAD),
    "MAL-NUL-IN-HEADER-VALUE": (get("X-Test: a\x00b"), BAD),
    "MAL-NON-ASCII-HEADER-NAME": (get("X-Tëst: a"), BAD),
    "MAL-LONG-URL": (get(target="/" + LONG), LARGE),
    "MAL-LONG-METHOD": (get(method=LONG), (501, *LARGE)),
    "MAL-LONG-HEADER-VALUE": (get(f"X-Test: {LONG}"), LARGE),
    "MAL-LONG-HEADER-NAME": (get(f"{LONG}: a"), LARGE),
    "MAL-MANY-HEADERS": (get(*(f"X-{number}: a" for number in range(10_000))), LARGE),
    "MAL-INCOMPLETE-REQUEST": (b"GET / HTTP/1.1\r\nHost: test\r\nX-Test: a", PARTIAL),
    "MAL-EMPTY-REQUEST": (b"", PARTIAL),
    "MAL-WHITESPACE-ONLY-LINE": (b"   \r\n\r\n", GARBAGE),
    "MAL-H2-PREFACE": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (505, *GARBAGE)),
    "MAL-RANGE-OVERLAPPING": (get("Range: bytes=0-,0-,0-"), (*GOOD, 416, *BAD)),
}

CASES = HEADS | LENGTHS | CODINGS | MALFORMED
BY_THE_APPLICATION = {"COMP-UPGRADE-INVALID-VER"}  # refused with a sound framing: kept open
CLOSED_AFTER = {
    "COMP-CONNECTION-CLOSE": get("Connection: close"),
    "COMP-HTTP10-DEFAULT-CLOSE": get(version="1.0"),
}


@pytest.fixture(scope="module", params=[True, False], ids=["fast", "slow"])
def runner(request: pytest.FixtureRequest) -> Iterator[tuple[asyncio.Runner, bool]]:
    with asyncio.Runner() as runner:
        yield runner, request.param


async def echo(request: web.Request) -> web.Response:
    return web.Response(body=await request.read())


async def websocket(request: web.Request) -> web.StreamResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    return socket


def application() -> web.Application:
    app = web.Application()
    app.router.add_get("/", echo)
    app.router.add_post("/", echo)
    app.router.add_get("/websocket", websocket)
    return app


async def answers(data: bytes, fast: bool) -> tuple[list[int], bool]:
    """Return the statuses that come back on a new connection, and whether it was closed."""
    async with ours(application(), fast=fast) as service:
        peer: Peer = await service.connect()
        sending = asyncio.ensure_future(peer.send(data))  # may not read on what it has refused
        heard, closed = await peer.settle(turns=60)
        sending.cancel()
        return [int(status) for status in re.findall(rb"HTTP/1\.\d (\d{3}) ", heard)], closed


@pytest.mark.parametrize("name", CASES)
def test_a_request_is_answered_as_its_rfc_allows(
    runner: tuple[asyncio.Runner, bool], name: str
) -> None:
    data, accepted = CASES[name]
    statuses, closed = runner[0].run(answers(data, runner[1]))
    got = statuses[0] if statuses else CLOSE if closed else WAIT
    assert got in accepted
    assert len(statuses) <= 1
    if got == 400 and name not in BY_THE_APPLICATION:
        assert closed


@pytest.mark.parametrize("name", CLOSED_AFTER)
def test_the_connection_is_closed_after_the_answer(
    runner: tuple[asyncio.Runner, bool], name: str
) -> None:
    assert runner[0].run(answers(CLOSED_AFTER[name], runner[1])) == ([200], True)
