"""Compressed bodies are inflated where an endpoint reads them, in pieces, and within bounds."""

import asyncio
import hashlib
import zlib
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest
from aiohttp import compression_utils, set_zlib_backend, web

import api_hour
from api_hour.http.compressed_body import MAX_RATIO, PIECE
from testkit.wire import Heard, Service, chunked, ours, run_on, theirs, with_body

JSON, FORM = "Content-Type: application/json", "Content-Type: application/x-www-form-urlencoded"
MULTIPART = "Content-Type: multipart/form-data; boundary=b"
LIMIT = 1 << 20


def run(scenario: Coroutine[Any, Any, None]) -> None:
    run_on("uvloop", scenario)


@pytest.fixture(params=[True, False], ids=["fast", "slow"])
def fast(request: pytest.FixtureRequest) -> bool:
    """Return whether the fast path is on."""
    return bool(request.param)


class Zlib:
    """The zlib of aiohttp, which counts what is inflated."""

    def __init__(self) -> None:
        self.inflaters = 0

    def decompressobj(self, *args: Any, **kwargs: Any) -> Any:
        """Count an inflater, and return it."""
        self.inflaters += 1
        return zlib.decompressobj(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(zlib, name)


@pytest.fixture
def inflated() -> Iterator[Zlib]:
    """Return the count of what aiohttp begins to inflate."""
    counting: Any = Zlib()
    before = compression_utils.ZLibBackend._zlib_backend
    set_zlib_backend(counting)
    yield counting
    set_zlib_backend(before)


def squeeze(data: bytes, wbits: int = 31) -> bytes:
    compressor = zlib.compressobj(9, wbits=wbits)
    return compressor.compress(data) + compressor.flush()


def coded(coding: str) -> str:
    return f"Content-Encoding: {coding}"


async def read(request: web.Request) -> web.Response:
    return web.Response(body=await request.read())


async def stream(request: web.Request) -> web.Response:
    return web.Response(text=str(sum([len(piece) async for piece in request.content.iter_any()])))


async def whole(request: web.Request) -> web.Response:
    return web.Response(text=str(len(await request.content.read())))


async def lines(request: web.Request) -> web.Response:
    return web.Response(text=repr([line async for line in request.content]))


async def form(request: web.Request) -> web.Response:
    return web.Response(text=repr(sorted((await request.post()).items())))


async def json(request: web.Request) -> web.Response:
    return api_hour.JSON(await api_hour.read_json(request))


async def unread(request: web.Request) -> web.Response:
    return web.Response(text=f"{request.can_read_body} {request.content.total_raw_bytes > 0}")


def application() -> web.Application:
    app = web.Application(client_max_size=LIMIT)
    for endpoint in (read, stream, whole, lines, form, json, unread):
        app.router.add_post(f"/{endpoint.__name__}", endpoint)
    return app


async def ask(service: Service, *requests: bytes) -> Heard:
    """Send requests on a connection; return all answers, however long they take."""
    peer = await service.connect()
    for count, request in enumerate(requests, 1):
        await peer.send(request)
        await peer.until(
            lambda peer: peer.closed or peer.heard.count(b"\r\n\r\n") >= count  # noqa: B023
        )
    heard = await peer.settle()
    peer.sock.close()
    service.peers.remove(peer)
    return heard


SPACES = b" " * 20_000_000
BOMB = squeeze(SPACES)
BOMBS = {"gzip": BOMB, "deflate": squeeze(SPACES, -15)}
REFUSED = {
    "404": with_body("/nothing", BOMB, coded("gzip")),
    "405": with_body("/read", BOMB, coded("gzip"), method="PUT"),
    "413": with_body("/json", BOMB + b" " * LIMIT, coded("gzip"), JSON),
    "415": with_body("/json", BOMB, coded("gzip")),
    "400": with_body("/read", BOMB, coded("gzip")).replace(b"Host: test", b"Host: a b"),
    "501": with_body("test:1", BOMB, coded("gzip"), method="CONNECT"),
    "200": with_body("/unread", BOMB, coded("gzip")),
}


@pytest.mark.parametrize("status", REFUSED)
def test_what_no_endpoint_reads_is_not_inflated(fast: bool, status: str, inflated: Zlib) -> None:
    async def scenario() -> None:
        async with ours(application(), fast=fast) as service:
            heard, closed = await ask(service, REFUSED[status], with_body("/read", b"next"))
            assert heard.startswith(f"HTTP/1.1 {status} ".encode())
            assert closed or heard.endswith(b"\r\n\r\nnext")
            assert inflated.inflaters == 0
            heard, _ = await ask(service, with_body("/read", squeeze(b"content"), coded("gzip")))
            assert heard.endswith(b"\r\n\r\ncontent")
            assert inflated.inflaters

    run(scenario())


@pytest.mark.parametrize("path", ["/read", "/stream", "/whole", "/form"])
@pytest.mark.parametrize("coding", BOMBS)
def test_what_becomes_too_large_is_refused_and_the_connection_goes_on(
    fast: bool, path: str, coding: str
) -> None:
    async def scenario() -> None:
        async with ours(application(), fast=fast) as service:
            heard, _ = await ask(
                service,
                with_body(path, BOMBS[coding], coded(coding), FORM),
                with_body("/read", b"next"),
            )
            assert heard.startswith(b"HTTP/1.1 413 ")
            assert heard.endswith(b"\r\n\r\nnext")

    run(scenario())


def test_the_answer_says_what_was_too_much(fast: bool) -> None:
    text = f"The body is inflated to more than {MAX_RATIO} times its size"

    async def scenario() -> None:
        async with ours(application(), fast=fast) as service:
            data = squeeze(b" " * 500_000)
            heard, _ = await ask(service, with_body("/stream", data, coded("gzip")))
            assert heard.endswith(b"\r\n\r\n" + text.encode())
            heard, _ = await ask(service, with_body("/json", data, coded("gzip"), JSON))
            assert heard.endswith(b'"error":{"status":413,"message":"%s"}}' % text.encode())
            small = squeeze(b" " * PIECE)  # a short text may be of one letter
            heard, _ = await ask(service, with_body("/stream", small, coded("gzip")))
            assert heard.endswith(b"\r\n\r\n%d" % PIECE)

    run(scenario())


@pytest.mark.parametrize("coding", ["br", "zstd"])
def test_another_coding_is_refused_with_what_to_send(fast: bool, coding: str) -> None:
    data = b"whatever it holds"

    async def scenario() -> None:
        async with ours(application(), fast=fast) as service:
            heard, _ = await ask(service, with_body("/read", data, coded(coding)))
            assert heard.startswith(b"HTTP/1.1 415 ")
            assert b"Accept-Encoding: gzip, deflate\r\n" in heard
            assert heard.endswith(
                b"A body with Content-Encoding %b is not supported: send gzip or deflate"
                % coding.encode()
            )
            heard, _ = await ask(service, with_body("/unread", data, coded(coding)))
            assert heard.startswith(b"HTTP/1.1 200 ")

    run(scenario())


def test_the_loop_goes_on_while_much_is_inflated(fast: bool) -> None:
    data = squeeze(
        b"".join(hashlib.sha256(b"%d" % number).digest() * 300 for number in range(1000))
    )
    turns = 0

    async def scenario() -> None:
        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        async def count(request: web.Request) -> web.Response:
            counting = asyncio.create_task(other())
            size = len(await request.content.read())
            counting.cancel()
            return web.Response(text=str(size))

        app = web.Application()
        app.router.add_post("/", count)
        async with ours(app, fast=fast) as service:
            peer = await service.connect()
            await peer.send(with_body("/", data, coded("gzip")))
            await peer.until(lambda peer: b"\r\n\r\n" in peer.heard)
            size = int(peer.heard.partition(b"\r\n\r\n")[2])
            assert size > 100 * PIECE
            assert turns > size / PIECE / 2

    run(scenario())


CONTENT = b"one=1&two=2&three=" + b"\n".join(b"%d" % number for number in range(5000))
PARTS = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nvalue\r\n--b--\r\n'
SENT = {
    "gzip": ("gzip", squeeze(CONTENT)),
    "two members": ("gzip", squeeze(CONTENT[:9]) + squeeze(CONTENT[9:])),
    "deflate": ("deflate", squeeze(CONTENT, 15)),
    "raw deflate": ("deflate", squeeze(CONTENT, -15)),
    "in capitals": ("GZIP", squeeze(CONTENT)),
    "an unknown one": ("snappy", squeeze(CONTENT)),
    "empty": ("gzip", squeeze(b"")),
    "nothing": ("gzip", b""),
    "no gzip": ("gzip", b"no gzip at all"),
    "cut short": ("deflate", squeeze(CONTENT, 15)[:-20]),
}


@pytest.mark.parametrize("name", SENT)
def test_endpoints_read_what_they_read_in_aiohttp(fast: bool, name: str) -> None:
    coding, data = SENT[name]
    parts = with_body("/form", squeeze(PARTS), coded("gzip"), MULTIPART)

    async def scenario() -> None:
        async with ours(application(), fast=fast) as we, theirs(application()) as they:
            for path in ("/read", "/stream", "/whole", "/lines", "/form"):
                pieces = [data[start : start + 99] for start in range(0, len(data), 99)]
                for request in (
                    with_body(path, data, coded(coding), FORM),
                    chunked(path, pieces, coded(coding), FORM),
                    parts,
                ):
                    ours_, theirs_ = await ask(we, request), await ask(they, request)
                    if theirs_[0][9:12] in (b"400", b"500"):  # its answers to a malformed body
                        assert ours_[0].startswith(b"HTTP/1.1 400")
                    else:
                        assert ours_[0] == theirs_[0]
                    cut = len(request) - len(data) // 2
                    assert (await we.ask(request[:cut], request[cut:]))[0] == ours_[0]

    run(scenario())


def test_a_project_may_inflate_by_itself(fast: bool) -> None:
    async def scenario() -> None:
        async with ours(application(), fast=fast, auto_decompress=False) as service:
            heard, _ = await ask(service, with_body("/read", BOMB, coded("gzip")))
            assert heard.endswith(b"\r\n\r\n" + BOMB)

    run(scenario())


@pytest.mark.parametrize("path", ["/read", "/unread"])
def test_a_compressed_body_that_does_not_come_has_the_time_of_any_other(
    fast: bool, path: str
) -> None:
    data = with_body(path, squeeze(CONTENT), coded("gzip"))[:-100]

    async def scenario() -> None:
        async with ours(application(), fast=fast, body_timeout=0.2, lingering_time=0.2) as service:
            peer = await service.connect()
            await peer.send(data)
            await peer.until(lambda peer: peer.closed)
            assert peer.heard.startswith(b"HTTP/1.1 " + (b"408" if path == "/read" else b"200"))

    run(scenario())
