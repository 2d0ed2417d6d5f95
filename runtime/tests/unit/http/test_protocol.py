"""HTTP/1.1 where aiohttp's server leaves it: malformed requests, versions, bodies that fail.

Everything holds with the fast path and without it, and however the bytes are cut.
"""

import asyncio
import gc
import logging
import random
import re
from collections.abc import Callable, Coroutine, Iterator
from itertools import pairwise
from typing import Any

import pytest
from aiohttp import web

from api_hour import json_errors
from runtime.tests.unit.http.endpoints import application, soon
from testkit.wire import LOOPS, Memory, Service, chunked, ours, request, run_on, with_body

Run = Callable[[Coroutine[Any, Any, None]], None]
OK = b"HTTP/1.1 200 OK\r\n"
PAGE = request("/json")
GARBAGE = b"GARBAGE\0\r\n\r\n"


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Run:
    """Return a function that runs a scenario on one of the event loops."""
    return lambda scenario: run_on(request.param, scenario)


@pytest.fixture(params=[True, False], ids=["fast", "slow"])
def fast(request: pytest.FixtureRequest) -> bool:
    """Return whether the fast path is on."""
    return bool(request.param)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    """Return a function that gives the lines that were logged from INFO on, collected ones too."""
    with caplog.at_level(logging.DEBUG):

        def logged() -> list[str]:
            gc.collect()  # tells of exceptions that nobody has retrieved
            return [
                record.getMessage() for record in caplog.records if record.levelno > logging.DEBUG
            ]

        yield logged


async def ask_at_every_cut(service: Service, data: bytes) -> list[tuple[bytes, bool]]:
    """Ask on one connection for each cut, side by side; return the different answers.

    Of a long request every seventh cut is tried, and each of its last bytes.
    """
    cuts = [cut for cut in range(len(data)) if cut % 7 == 0 or cut > len(data) - 150]
    heard = (await service.ask_at_cuts(data, cuts)).values()
    return sorted(set(heard))


def statuses(heard: bytes) -> list[int]:
    """Return the statuses of answers whose bodies have none."""
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d\d\d) ", heard)]


def version(number: str, target: str = "/json") -> bytes:
    return request(target, version=number)


UPGRADE = request("/json", "Connection: Upgrade", "Upgrade: h2c")
# What is sent, and the statuses that are heard.
CASES = {
    "a malformed request": (GARBAGE, [400]),
    "one behind a good one": (PAGE + GARBAGE, [200, 400]),
    "one behind many": (PAGE * 33 + GARBAGE, [200] * 33 + [400]),
    "one behind one that suspends": (request("/suspended") + PAGE + GARBAGE, [200, 200, 400]),
    "one behind a body": (with_body("/echo", b"body") + GARBAGE, [200, 400]),
    "one behind chunks": (chunked("/echo", [b"one", b"two"]) + GARBAGE, [200, 400]),
    "a malformed header behind a good one": (PAGE + b"GET / HTTP/1.1\r\nX : y\r\n\r\n", [200, 400]),
    "one behind the last": (request("/json", "Connection: close") + GARBAGE, [200]),
    "one behind the last in 1.0": (request("/stock", version="1.0") + GARBAGE, [200]),
    "a malformed body": (request("/echo", "Transfer-Encoding: chunked", method="POST") + b"z\r\n",
                         [400]),
    "a body malformed later": (chunked("/late-body", [b"x"])[:-5] + b"z\r\n" + PAGE, [400]),
    "a malformed body behind a good one": (PAGE + chunked("/echo", [b"x"])[:-5] + b"z\r\n",
                                           [200, 400]),
    "HTTP/1.2": (version("1.2") + PAGE, [200]),
    "HTTP/1.9": (version("1.9"), [200]),
    "HTTP/1.2 behind": (PAGE + version("1.2") + PAGE, [200, 505]),
    "HTTP/1.2 with a body": (with_body("/echo", b"x").replace(b"/1.1", b"/1.3") + PAGE, [200]),
    "HTTP/1.2 behind a body like it":
        (with_body("/echo", b"GET /json HTTP/1.2\r\n\r\n") + version("1.2"), [200, 505]),
    "garbage behind HTTP/1.2": (version("1.2") + GARBAGE, [200]),
    "PATCH and HTTP/1.2": (version("1.2").replace(b"GET", b"PATCH"), [505]),
    "HTTP/1.23": (version("1.23"), [505]),
    "HTTP/2.0": (version("2.0"), [505]),
    "HTTP/3.0": (version("3.0"), [505]),
    "HTTP/0.9": (version("0.9"), [505]),
    "HTTP/2.0 behind": (PAGE + version("2.0") + PAGE, [200, 505]),
    "HTTP/4.2 behind": (PAGE + version("4.2") + PAGE, [200, 505]),
    "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [505]),
    "HTTP/1": (version("1"), [400]),
    "HTTP/1.10": (version("1.10"), [400]),
    "a header that names the error of a version":
        (b"GET / HTTP/1.1\r\nX: Invalid HTTP version\x01\r\n\r\n", [400]),
    "an ignored upgrade": (UPGRADE, [200]),
    "a request behind an ignored upgrade": (UPGRADE + PAGE, [200]),
    "ignored upgrades": (UPGRADE * 2 + PAGE, [200]),
    "an ignored upgrade with a body":
        (with_body("/echo", b"x" * 9, "Connection: Upgrade", "Upgrade: h2c") + PAGE, [200]),
    "an ignored upgrade that fills the queue": (PAGE * 31 + UPGRADE + PAGE * 2, [200] * 32),
}  # fmt: skip
# What is heard as well where the network cut the bytes: a newer version is parsed as 1.1 where its
# segment begins with the whole line, and a request behind an ignored upgrade where it begins one.
ALSO = {
    "HTTP/1.2": [[505]],
    "HTTP/1.9": [[505]],
    "HTTP/1.2 with a body": [[505]],
    "garbage behind HTTP/1.2": [[505]],
    "HTTP/1.2 behind": [[200, 200]],
    "HTTP/1.2 behind a body like it": [[200, 200]],
    "a request behind an ignored upgrade": [[200, 200]],
    "ignored upgrades": [[200, 200], [200, 200, 200]],
    "an ignored upgrade that fills the queue": [[200] * 33, [200] * 34],
}


@pytest.mark.parametrize("name", CASES)
def test_every_request_gets_its_own_answer_at_every_cut(run: Run, fast: bool, name: str) -> None:
    data, expected = CASES[name]

    async def scenario() -> None:
        async with ours(application(), fast=fast) as service:
            assert statuses((await service.ask(data))[0]) == expected
            for heard, closed in await ask_at_every_cut(service, data):
                assert statuses(heard) in [expected, *ALSO.get(name, [])]
                assert closed or len(statuses(heard)) == data.count(b" HTTP/1.")
                old = heard.startswith(b"HTTP/1.0")
                assert closed is (b"\r\nConnection: close\r\n" in heard or old)

    run(scenario())


def test_a_transfer_encoding_with_http_1_0_is_refused_and_the_connection_closed(
    run: Run, fast: bool
) -> None:
    kept = request("/echo", "Connection: keep-alive", "Transfer-Encoding: chunked",
                   method="POST", version="1.0") + b"3\r\nabc\r\n0\r\n\r\n" + PAGE  # fmt: skip

    async def scenario() -> None:
        async with ours(application(), fast=fast) as service:
            heard, closed = await service.ask(kept)
            assert statuses(heard) == [400]
            assert closed

    run(scenario())


async def url(request: web.Request) -> web.Response:
    return web.Response(text=f"{request.path_qs} {request.url}")


def test_a_whole_url_without_a_path_asks_for_the_root(run: Run, fast: bool) -> None:
    async def scenario() -> None:
        app = web.Application()
        app.router.add_get("/", url)
        async with ours(app, fast=fast) as service:
            heard, _ = await service.ask(request("http://h:1234"))
            assert heard.endswith(b"\r\n\r\n/ http://h:1234")
            heard, _ = await service.ask(request("http://h:1234?x=%20"))
            assert heard.endswith(b"\r\n\r\n/?x=%20 http://h:1234/?x=%20")

    run(scenario())


# Malformed requests behind a proxy, with every setting that an answer or its log line asks for.

MALFORMED = {
    "raw UTF-8": "GET /caf\u00e9 HTTP/1.1\r\nHost: a\r\n\r\n".encode(),
    "DEL": b"GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n",
    "too many headers": request("/json", *(f"X-{number}: 1" for number in range(200))),
    "space before a colon": b"GET / HTTP/1.1\r\nX : y\r\n\r\n",
    "garbage": GARBAGE,
    "a long line": request("/" + "x" * 9000),
    "a bad chunk": request("/echo", "Transfer-Encoding: chunked", method="POST") + b"zz\r\n",
    "a bad version": request("/json", version="9.9"),
    "no version": b"GET /\r\n\r\n",
    "two lengths": request("/echo", *["Content-Length: 1"] * 2, method="POST") + b"x",
}


@pytest.mark.parametrize("proxies", [(), ("127.0.0.0/8",), ("unix",), ("0.0.0.0/0", "::/0")])
def test_every_malformed_request_is_answered_counted_and_takes_one_line_of_the_access_log(
    run: Run, fast: bool, proxies: tuple[str, ...], lines: Callable[[], list[str]]
) -> None:
    async def scenario() -> None:
        served = ours(
            application(), fast=fast, trusted_proxies=proxies, access_log=True, metrics=True
        )
        async with served as service:
            for count, data in enumerate(MALFORMED.values(), 1):
                heard, closed = await service.ask(data)
                assert statuses(heard) in ([400], [414], [431], [505])
                assert closed
                assert count == service.connections.requests_count
            logged = lines()
            assert len(logged) == len(MALFORMED)  # and no traceback
            assert all(re.search(r'" (?:400|414|431|505) ', line) for line in logged)
            counted = service.connections.metrics._counts
            assert sum(sum(numbers[:-1]) for numbers in counted.values()) == len(MALFORMED)

    run(scenario())


# Bodies that fail, whoever reads them.


async def plain_json(request: web.Request) -> web.Response:
    return web.json_response(await request.json())


async def late_json(request: web.Request) -> web.Response:
    await soon()
    await soon()
    return web.json_response(await request.json())


async def wrapped(request: web.Request) -> web.Response:
    try:
        return web.json_response(await request.json())
    except Exception as error:
        raise RuntimeError("the body could not be read") from error


async def parts(request: web.Request) -> web.Response:
    return web.Response(text=repr(await request.post()))


async def pieces(request: web.Request) -> web.Response:
    return web.Response(text=repr([piece async for piece in request.content.iter_any()]))


async def unread(request: web.Request) -> web.Response:
    return web.Response(text="unread")


FORM = "Content-Type: application/x-www-form-urlencoded"
READERS = [plain_json, late_json, wrapped, parts, pieces, unread]


def reading(*middlewares: Any) -> web.Application:
    app = web.Application(middlewares=middlewares)
    for reader in READERS:
        app.router.add_post(f"/{reader.__name__}", reader)
    return app


@pytest.mark.parametrize("middlewares", [(), (json_errors,)], ids=["plain", "json_errors"])
def test_a_client_that_leaves_in_mid_body_leaves_no_line(
    run: Run, fast: bool, middlewares: Any, lines: Callable[[], list[str]]
) -> None:
    async def scenario() -> None:
        async with ours(reading(*middlewares), fast=fast) as service:
            for reader in READERS:
                for body in (b"", b"[1,"):
                    head = with_body(f"/{reader.__name__}", b"x" * 99, FORM)[:-99]
                    peer = await service.connect()
                    await peer.send(head + body)
                    if reader is not late_json:
                        await peer.settle()
                    peer.sock.close()
                    await asyncio.sleep(0.01)
                    service.peers.remove(peer)
            assert not lines()

    run(scenario())


@pytest.mark.parametrize("middlewares", [(), (json_errors,)], ids=["plain", "json_errors"])
def test_a_malformed_body_is_refused_without_a_line(
    run: Run, fast: bool, middlewares: Any, lines: Callable[[], list[str]]
) -> None:
    async def scenario() -> None:
        async with ours(reading(*middlewares), fast=fast) as service:
            for reader in READERS:
                path = f"/{reader.__name__}"
                for data in (
                    chunked(path, [b"["], FORM)[:-5] + b"z\r\n",
                    with_body(path, b"no gzip at all", "Content-Encoding: gzip", FORM),
                ):
                    for cut in (0, len(data) - 9, len(data) - 3):
                        heard, closed = await service.ask(data[:cut], data[cut:])
                        assert statuses(heard) in (([200],) if reader is unread else ([400],))
                        # What nobody reads is not inflated, and so not known to be wrong.
                        assert closed or (reader is unread and b"gzip" in data)
            assert not lines()

    run(scenario())


def test_a_fault_of_an_endpoint_is_still_logged(
    run: Run, fast: bool, lines: Callable[[], list[str]]
) -> None:
    async def unreachable(request: web.Request) -> web.Response:
        raise ConnectionRefusedError("the database")

    async def scenario() -> None:
        app = web.Application()
        app.router.add_get("/", unreachable)
        async with ours(app, fast=fast) as service:
            heard, _ = await service.ask(request("/"))
            assert statuses(heard) == [500]
            assert len(lines()) == 1

    run(scenario())


def test_a_writer_to_a_client_that_left_leaves_no_line(
    run: Run, fast: bool, lines: Callable[[], list[str]]
) -> None:
    left = asyncio.Event()

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await left.wait()
        for _ in range(20):  # asyncio itself warns from the fifth on
            await response.write(b"nobody reads this")
            await asyncio.sleep(0)
        return response

    async def scenario() -> None:
        app = web.Application()
        app.router.add_get("/", stream)
        async with ours(app, fast=fast) as service:
            peer = await service.connect()
            await peer.send(request("/"))
            await peer.settle()
            peer.sock.close()
            left.set()
            await asyncio.sleep(0.05)
            service.peers.remove(peer)
            assert not lines()

    run(scenario())


TWICE = (
    b"\r\n",
    b"\r\nGET /work?1 HTTP/1.2\r\nHost: a\r\n",
    b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
)
MANY = 9400  # requests in one segment
QUEUES = 150  # of requests, on a connection each


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "slow"])
def test_a_request_that_comes_in_pieces_is_served_once(run: Run, fast: bool) -> None:
    async def scenario() -> None:
        served = []

        async def count(request: web.Request) -> web.Response:
            served.append(request.query_string)
            return web.Response()

        app = web.Application()
        app.router.add_get("/work", count)
        async with ours(app, fast=fast) as service:
            await service.ask(*TWICE)
        assert served == ["1"]

    run(scenario())


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "slow"])
def test_a_newer_version_closes_its_connection(run: Run, fast: bool) -> None:
    async def scenario() -> None:
        served = []

        async def count(request: web.Request) -> web.Response:
            served.append(request.path)
            return web.Response()

        app = web.Application()
        app.router.add_get("/", count)
        async with ours(app, fast=fast) as service:
            heard, closed = await service.ask(b"GET / HTTP/1.2\r\nHost: a\r\n\r\n" * MANY)
        assert closed
        assert statuses(heard) == [200]
        assert served == ["/"]

    run(scenario())


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "slow"])
def test_a_websocket_may_follow_a_body_that_came_late(run: Run, fast: bool) -> None:
    async def scenario() -> None:
        async def echo(request: web.Request) -> web.Response:
            return web.Response(body=await request.read())

        async def socket(request: web.Request) -> web.WebSocketResponse:
            opened = web.WebSocketResponse()
            await opened.prepare(request)
            return opened

        app = web.Application()
        app.router.add_post("/echo", echo)
        app.router.add_get("/socket", socket)
        head = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n"
        upgrade = (
            b"GET /socket HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        async with ours(app, fast=fast) as service:
            heard, _ = await service.ask(head, b"body", upgrade)
        assert b"HTTP/1.1 101 " in heard

    run(scenario())


def queue_of(choose: random.Random) -> tuple[bytes, int]:
    """Return requests of every kind in a row, numbered, and how many there are."""
    count = choose.randint(1, 40)
    sent = b""
    for number in range(count):
        target = f"/work?{number}"
        sent += choose.choice(
            (
                *[request(target)] * 9,
                request(target, "Connection: Upgrade", "Upgrade: h2c"),
                request(target, version=f"1.{choose.randint(2, 12)}"),
                b"\r\n" * choose.randint(0, 2) + with_body(target, b"GET /work?0 HTTP/1.2\r\n\r\n"),
                with_body(target, b"body", "Connection: Upgrade", "Upgrade: h2c"),
                chunked(target, [b"GET /work?0 HTTP/1.3\r\nHost: a\r\n\r\n"]),
                request(target, "X : malformed") if choose.random() < 0.2 else request(target),
            )
        )
    return sent, count


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "slow"])
def test_what_is_served_is_answered_once_and_in_order(fast: bool) -> None:
    served = dict[Any, list[int]]()

    async def work(request: web.Request) -> web.Response:
        number = int(request.query_string)
        served.setdefault(request.transport, []).append(number)
        if number % 3 == 0:
            await soon()
        await request.read()
        return web.Response(text=f"[{number}]")

    async def scenario() -> None:
        choose, loop = random.Random(11), asyncio.get_running_loop()  # noqa: S311
        app = web.Application()
        app.router.add_route("*", "/work", work)
        async with ours(app, fast=fast) as service:
            for _ in range(QUEUES):
                sent, count = queue_of(choose)
                ends = [end.end() for end in re.finditer(b"\n", sent)]  # of lines
                places = [*choose.choices(ends, k=3), *choose.choices(range(len(sent)), k=2)]
                cuts = sorted(choose.sample(places, choose.randint(0, 5)))
                end = Memory(service.factory)
                for piece in (sent[i:j] for i, j in pairwise((0, *cuts, len(sent)))):
                    loop.call_soon(end.receive, piece)
                    for _ in range(choose.choice((0, 3, count * 5))):
                        await asyncio.sleep(0)
                for _ in range(count * 6):
                    await asyncio.sleep(0)
                begun = served.pop(end, [])
                assert [int(number) for number in re.findall(rb"\[(\d+)\]", end.heard)] == begun
                assert begun == sorted(set(begun))
                # What was not served comes behind an answer after which the connection closes.
                assert end.closed or begun == list(range(count))
                assert begun or b" 400 " in end.heard or b" 505 " in end.heard
                end.close()

    run_on("asyncio", scenario())
