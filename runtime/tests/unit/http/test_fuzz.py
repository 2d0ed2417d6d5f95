"""Whatever bytes a client sends, with whatever settings: an answer below 500, or the end.

Nothing fails by them, nothing is logged as a fault, and nothing is left behind. ``make test-long``
tries many more examples than a usual run.
"""

import asyncio
import logging
import re
from collections.abc import Iterator
from contextlib import AsyncExitStack
from itertools import pairwise
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

import api_hour
from api_hour.config.settings import PROXY_HEADERS
from runtime.tests.examples import UNSHRUNK, bounded, count
from runtime.tests.unit.http.fast.cases import CASES
from testkit.waiting import until_async
from testkit.wire import LOOPS, Service, ours, request

EXAMPLES = count(50)
STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")
GOOD = request("/")
EVERYBODY = ["0.0.0.0/0", "::/0", "unix"]

# Every setting that changes how a request is parsed, whose it is, or what is recorded of it.
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "slow": {"fast": False},
    "proxies": {"trusted_proxies": EVERYBODY, "proxy_headers": PROXY_HEADERS, "access_log": True},
    "proxies, slow": {"trusted_proxies": EVERYBODY, "proxy_headers": PROXY_HEADERS, "fast": False},
    "forwarded": {"trusted_proxies": EVERYBODY, "proxy_headers": ["forwarded"], "metrics": True},
    "hosts": {"hosts": ("test",), "access_log": True},
    "hosts, slow": {"hosts": ("test",), "fast": False, "access_log": True, "metrics": True},
    "hosts behind proxies": {"hosts": ("test",), "trusted_proxies": EVERYBODY},
    "log, skipped": {"access_log": True, "access_log_skip": ["/", "/a/"]},
    "limits": {"max_line_size": 100, "max_field_size": 100, "max_headers": 5},
    "limits, slow": {"max_line_size": 100, "max_headers": 5, "fast": False, "access_log": True},
    "as it came": {"auto_decompress": False},
}

NAMES = [
    *(name.title() for name in PROXY_HEADERS),
    *("Host", "Content-Length", "Transfer-Encoding", "Connection", "Upgrade", "Expect", "Cookie"),
    *(
        "Content-Encoding",
        "Content-Type",
        "Range",
        "If-Modified-Since",
        "Accept-Encoding",
        "Origin",
    ),
    *("Referer", "User-Agent", "X-Request-ID", "Sec-WebSocket-Key", "Sec-WebSocket-Version"),
    *("Trailer", "TE", "Date", "If-None-Match", "Authorization", ":authority", "A" * 120),
]
VALUES = [
    *("", "0", "-1", "1", "5", "99999999999999999999", "chunked", "gzip", "gzip, chunked", "close"),
    *("keep-alive, Upgrade", "websocket", "h2c", "100-continue", "identity", "bytes=0-", "test:0"),
    *("test", "test:99999", "[::1", "[::1]:80", "127.0.0.1", 'for=x;host="a\\"b"', "https", "*"),
    *('for="[2001:db8::1]:4711"', "unknown", ",,,", "a=b; a=c; =; $x", "/..//%00", "\u00e9" * 9),
    *("multipart/form-data; boundary=b", "application/json; charset=nosuch", "13", "x" * 200),
    *("Sat, 99 Foo 2026 99:99:99 GMT", "\t", "a\tb", "\x7f", "\x00", "1, 1", "+5", "0x5", "1_0"),
]
TARGETS = [
    *("/", "/a/b", "*", "", "//", "/%", "/%zz", "/\u00e9", "/?a=%ff&b", "http://test/", "test:80"),
    *("http://user:password@other/", "http://[::1/", "/#x", "/a b", "/\x7f", "/" + "l" * 200, "x:"),
    *("http://test:99999/", "http://", "/..", "/;", "/\\", "/\x00", "//other/", "http:///"),
]
METHODS = [
    "GET",
    "POST",
    "HEAD",
    "OPTIONS",
    "CONNECT",
    "PRI",
    "get",
    "G\x00",
    "",
    "QUERY",
    "A" * 99,
]
VERSIONS = ["HTTP/1.1", "HTTP/1.0", "HTTP/1.9", "HTTP/2.0", "HTTP/0.9", "HTTP/1.", "http/1.1", ""]
ENDS = ["\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r", " \r\n", "\r\r\n", "\r\n "]
BODIES = [
    *(b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"5;x=y\r\nhello\r\n0\r\nA: b\r\n\r\n"),
    *(b"5\r\nhello", b"g\r\n", b"ffffffffffffffff\r\n", b"-1\r\n", b"0\r\n\r\n" + GOOD, GOOD),
    *(b"\x1f\x8b\x08\x00" * 9, b"--b\r\n\r\n\r\n--b--", b"{", b"\xff" * 50),
]


@st.composite
def structured(draw: st.DrawFn) -> bytes:
    """Return a request made of parts, each of which may be odd."""
    end = draw(st.sampled_from(ENDS))
    words = [draw(st.sampled_from(pool)) for pool in (METHODS, TARGETS, VERSIONS)]
    odd = st.text(max_size=20)
    header = st.tuples(st.sampled_from(NAMES) | odd, st.sampled_from(VALUES) | odd)
    headers = draw(st.lists(header, max_size=8))
    if draw(st.booleans()):
        headers.insert(0, ("Host", "test"))
    if draw(st.booleans()):
        words[0], words[2] = draw(st.sampled_from(METHODS[:3])), "HTTP/1.1"
    lines = [" ".join(words), *(f"{name}: {value}" for name, value in headers), "", ""]
    return end.join(lines).encode("utf-8", "replace") + draw(st.sampled_from(BODIES))


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Return one of the known cases, with some of its bytes changed."""
    data = bytearray(draw(st.sampled_from(sorted(CASES.values()))))
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, len(data)))
        kind = draw(st.integers(0, 3))
        if kind == 0:
            del data[place : place + draw(st.integers(1, 9))]
        elif kind == 1:
            data[place:place] = draw(st.binary(max_size=4))
        elif kind == 2:
            data[place : place + 1] = draw(
                st.sampled_from([b"\r", b"\n", b"\0", b" ", b":", b"\xff"])
            )
        else:
            data[place:place] = data[max(0, place - 20) : place]
    return bytes(data)


async def index(request: web.Request) -> web.Response:
    """Look at everything that is computed of what a client or a proxy says."""
    seen: list[object] = [
        request.remote,
        request.scheme,
        request.host,
        request.url,
        request.rel_url,
    ]
    seen += [request.path, request.query, request.cookies, request.content_type]
    seen += [request.if_modified_since, request.if_none_match, request.secure, request.forwarded]
    return web.Response(text=f"{len(await request.read())} {len(str(seen))}")


def application(**_: object) -> web.Application:
    app = web.Application(middlewares=[api_hour.json_errors])
    for path in ("/", "/a/{name}"):
        app.router.add_route("*", path, index)
    return app


class Faults(logging.Handler):
    """Keeps what is logged as a fault."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


class Servers:
    """One server for each set of settings, on one event loop."""

    def __init__(self, loop: str) -> None:
        self.runner = asyncio.Runner(loop_factory=LOOPS[loop])
        self.stack, self.faults = AsyncExitStack(), Faults()
        self.services: dict[str, Service] = {}
        logging.getLogger().addHandler(self.faults)
        self.runner.run(self._start())

    async def _start(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self.faults.lines.append(str(context)))
        for name, options in SETTINGS.items():
            self.services[name] = await self.stack.enter_async_context(
                ours(application(), **options)
            )

    def check(self, name: str, data: bytes, cuts: list[int]) -> None:
        self.runner.run(asyncio.wait_for(self._check(self.services[name], data, cuts), 60))

    async def _check(self, service: Service, data: bytes, cuts: list[int]) -> None:
        before = asyncio.all_tasks()
        places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
        heard, _ = await service.ask(*(data[start:end] for start, end in pairwise(places)))
        found = [int(status) for status in STATUS.findall(heard)]
        assert all(status < 500 or status in (501, 505) for status in found), heard
        assert (await service.ask(GOOD))[0].startswith(b"HTTP/1.1 200 "), "the server is hurt"
        await until_async(lambda: not asyncio.all_tasks() - before, "a task is left", timeout=5)
        await until_async(lambda: not service.connections.connections, "it is open", timeout=5)
        assert not self.faults.lines, self.faults.lines

    def close(self) -> None:
        self.runner.run(self.stack.aclose())
        self.runner.close()
        logging.getLogger().removeHandler(self.faults)


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    """Return servers with all settings."""
    servers = Servers("asyncio")
    yield servers
    servers.close()


@pytest.mark.parametrize("kind", ["structured", "mutated", "noise"])
def test_no_bytes_of_a_client_make_a_fault(servers: Servers, kind: str) -> None:
    data = {"structured": structured(), "mutated": mutated(), "noise": st.binary(max_size=200)}[
        kind
    ]

    @bounded(EXAMPLES, UNSHRUNK)
    @given(st.sampled_from(sorted(SETTINGS)), data, st.lists(st.integers(0, 400), max_size=3))
    def check(name: str, data: bytes, cuts: list[int]) -> None:
        servers.check(name, data, cuts)

    check()
