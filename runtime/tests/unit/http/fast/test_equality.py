"""The fast path gives the bytes that aiohttp gives, and closes the connections that it closes.

How the bytes arrive makes no difference: whatever the cuts, the answers are those that aiohttp
gives to requests that arrive one by one. aiohttp itself forgets a request where a malformed one
follows in the same segment, so it is asked byte by byte, too. The answer to a malformed request has
words and a version of its own.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import AsyncExitStack
from itertools import pairwise
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from api_hour import JSON
from runtime.tests.examples import SAME, bounded, count
from runtime.tests.unit.http.endpoints import application, soon
from runtime.tests.unit.http.fast import cases
from runtime.tests.unit.http.fast.cases import CASES, PROBE, STRICTER
from testkit.wire import LOOPS, Service, chunked, ours, request, run_on, theirs, with_body

EXAMPLES = count(150)
KINDS = ["GET", "METHOD", "VERSION", "BODY", "HEADER"]
PLAIN = sorted(CASES.keys() - STRICTER)
CLOSES = {"unknown upgrade"}  # for what comes in its segment: see http/parser.py

pytestmark = pytest.mark.filterwarnings("ignore:returning HTTPException object is deprecated")


class Pair:
    """One application served twice, by HTTPServer and by aiohttp."""

    def __init__(self, runner: asyncio.Runner, app: Callable[[], web.Application]) -> None:
        self.runner, self.stack = runner, AsyncExitStack()
        runner.run(self._start(app))

    async def _start(self, app: Callable[[], web.Application]) -> None:
        self.mine: Service = await self.stack.enter_async_context(ours(app()))
        self.stock: Service = await self.stack.enter_async_context(theirs(app()))

    def compare(self, *requests: bytes, cuts: Iterable[int] = ()) -> bytes:
        """Check that both servers answer the same; return the answers.

        Ours gets the requests one by one, or, with ``cuts``, all their bytes in other pieces.
        """
        return self.runner.run(asyncio.wait_for(self._compare(requests, cuts), 60))

    async def _compare(self, requests: tuple[bytes, ...], cuts: Iterable[int]) -> bytes:
        data = b"".join(requests)
        heard, closed = await self.mine.ask(*(pieces(data, cuts) if cuts else requests))
        if not any(text in heard for text in cases.REFUSED) and not NEWER.search(data):
            expected = await self.stock.ask(*requests)
            if (unworded(heard), closed) != (unworded(expected[0]), expected[1]):
                expected = await self.stock.ask(*(bytes([byte]) for byte in data))
            assert (unworded(heard), closed) == (unworded(expected[0]), expected[1])
        return heard


NEWER = re.compile(rb"HTTP/1\.[2-9]")  # which aiohttp refuses
MALFORMED = re.compile(rb"HTTP/1\.[01] 4(?:00|14|31) [^\r]+\r\n(?:[^\r]+\r\n)+\r\n[^\r]*\Z")


def unworded(heard: bytes) -> bytes:
    """Return the answers without the words of the last one, if that refuses a request."""
    return MALFORMED.sub(b"400", heard)


def pieces(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """Cut ``data`` in pieces."""
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(places)]


@pytest.fixture(params=LOOPS)
def serve(request: pytest.FixtureRequest) -> Iterator[Callable[..., Pair]]:
    """Return a function that serves an application twice, on one of the event loops."""
    logging.disable(logging.CRITICAL)  # endpoints fail on purpose
    with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
        pairs: list[Pair] = []

        def make(app: Callable[[], web.Application] = application) -> Pair:
            pairs.append(Pair(runner, app))
            return pairs[-1]

        yield make
        for pair in pairs:
            runner.run(pair.stack.aclose())
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("kind", KINDS)
def test_a_request_gets_the_same_answer(serve: Callable[..., Pair], kind: str) -> None:
    pair = serve()
    chosen = getattr(cases, f"{kind}_CASES")
    assert len(chosen) > 10
    for name in chosen.keys() - STRICTER:
        print(name)
        pair.compare(chosen[name], PROBE)


def places(case: bytes) -> Iterator[int]:
    """Return where to cut a case and the probe behind it: everywhere in a short case."""
    step = max(1, len(case) // 50)
    for cut in range(len(case) + len(PROBE)):
        if cut <= min(len(case), 250) or cut % (step if cut < len(case) else 8) == 0:
            yield cut


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "slow"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_request_in_two_pieces_gets_the_same_answer(kind: str, fast: bool) -> None:
    async def scenario() -> None:
        async with ours(application(), fast=fast) as service:
            for name in sorted(getattr(cases, f"{kind}_CASES").keys() - STRICTER):
                heard = await service.ask_at_cuts(CASES[name] + PROBE, places(CASES[name]))
                if name in CLOSES:  # unless the probe came later
                    del heard[len(CASES[name])]
                assert len(set(heard.values())) == 1, name
                assert (b"", False) not in heard.values(), name

    logging.disable(logging.CRITICAL)
    run_on("asyncio", scenario())
    logging.disable(logging.NOTSET)


def explore(check: Callable[..., None], *strategies: Any) -> None:
    """Check examples, the same ones every time."""
    given(*strategies)(bounded(EXAMPLES, SAME)(check))()  # type: ignore[no-untyped-call]


CUTS = st.lists(st.integers(0, 10_000), max_size=3)


def test_requests_one_after_the_other_get_the_same_answers(serve: Callable[..., Pair]) -> None:
    pair = serve()

    def check(names: list[str], cuts: list[int]) -> None:
        pair.compare(*(CASES[name] for name in names), PROBE, cuts=cuts or [0])

    explore(check, st.lists(st.sampled_from(PLAIN), min_size=2, max_size=7), CUTS)


@pytest.mark.parametrize("count", [2, 16, 30, 31, 32, 33, 63, 64, 100])
@pytest.mark.parametrize("target", ["/json", "/stock", "/suspended", "/streamed", "/missing"])
def test_many_requests_at_once_get_the_same_answers(
    serve: Callable[..., Pair], target: str, count: int
) -> None:
    pair = serve()
    heard = pair.compare(*[request(target)] * count, PROBE, cuts=[0])
    assert heard.count(b"HTTP/1.1 ") == count + 1


def test_a_response_is_sent_once_even_if_it_is_returned_again(
    serve: Callable[..., Pair],
) -> None:
    pair = serve()
    assert pair.compare(request("/shared"), PROBE).count(b"once") == 1
    assert pair.compare(request("/shared"), PROBE).count(b"once") == 0


TOKEN = st.text("abcXYZ019-_.!~", min_size=1, max_size=12)
SEGMENT = st.one_of(
    TOKEN,
    st.sampled_from(["json", "hello", "numbers", "rest", "status", "any", "sub", "..", "", "é",
                     "%2F", "%2f", "%25", "%41", "%C3%A9", "%", "a+b", "a b", "200", "204"]),
)  # fmt: skip
TARGET = st.builds(
    lambda parts, query: "/" + "/".join(parts) + query,
    st.lists(SEGMENT, max_size=4),
    st.one_of(st.just(""), st.builds("?{}={}".format, TOKEN, SEGMENT)),
)
HEADER = st.one_of(
    st.builds("{}: {}".format, TOKEN, st.text(st.characters(codec="utf-8"), max_size=20)),
    st.sampled_from(["Connection: close", "Connection: keep-alive", "Expect: 100-continue",
                     "Accept-Encoding: gzip", "Cookie: a=1; b", "Range: bytes=0-1", "TE: trailers",
                     "If-None-Match: *", "Content-Type: application/json", "Upgrade: h2c",
                     "Content-Encoding: gzip", "Transfer-Encoding: gzip", "Host: two"]),
)  # fmt: skip
METHOD = st.sampled_from(["GET", "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "BREW"])
HEADERS = st.lists(HEADER, max_size=4)
REQUEST = st.one_of(
    st.builds(
        lambda target, headers, method, version: request(
            target, *headers, method=method, version=version
        ),
        TARGET, HEADERS, METHOD, st.sampled_from(["1.1", "1.1", "1.1", "1.0"]),
    ),
    st.builds(
        lambda target, body, headers, method: with_body(target, body, *headers, method=method),
        st.one_of(TARGET, st.sampled_from(["/echo", "/form", "/lines"])),
        st.binary(max_size=100), HEADERS, METHOD,
    ),
    st.builds(
        lambda chunks, headers: chunked("/echo", filter(None, chunks), *headers),
        st.lists(st.binary(max_size=30), max_size=4), HEADERS,
    ),
)  # fmt: skip


def test_invented_requests_get_the_same_answers(serve: Callable[..., Pair]) -> None:
    pair = serve()

    def check(requests: list[bytes], cuts: list[int]) -> None:
        pair.compare(*requests, PROBE, cuts=cuts or [0])

    explore(check, st.lists(REQUEST, min_size=1, max_size=4), CUTS)


def test_damaged_requests_get_the_same_answers(serve: Callable[..., Pair]) -> None:
    pair = serve()

    def check(name: str, place: int, byte: int, cuts: list[int]) -> None:
        data = bytearray(CASES[name] + PROBE)
        data[place % len(data)] = byte
        pair.compare(bytes(data), cuts=cuts or [0])

    explore(check, st.sampled_from(PLAIN), st.integers(0, 10_000), st.integers(0, 255), CUTS)


@web.middleware
async def marking(request: web.Request, handler: Any) -> web.StreamResponse:
    request["seen"] = [*request.get("seen", []), request.app["name"]]
    response: web.StreamResponse = await handler(request)
    response.headers["X-Seen"] = " ".join(request["seen"])
    return response


@web.middleware
async def catching(request: web.Request, handler: Any) -> web.StreamResponse:
    await soon()
    try:
        response: web.StreamResponse = await handler(request)
    except web.HTTPNotFound:
        return JSON({"error": str(request.rel_url)}, status=404)
    return response


def with_middlewares() -> web.Application:
    app = application(middlewares=[catching, marking, web.normalize_path_middleware()])
    sub = web.Application(middlewares=[marking])
    app["name"], sub["name"] = "app", "sub"
    sub.router.add_get("/json", CASES_HANDLER)
    sub.router.add_get("/{name}", CASES_HANDLER)
    app.add_subapp("/more", sub)
    return app


async def CASES_HANDLER(request: web.Request) -> web.Response:
    return web.Response(text=f"{request.app['name']} {dict(request.match_info)} {request.url}")


def with_signals() -> web.Application:
    async def sign(request: web.Request, response: web.StreamResponse) -> None:
        await soon()
        response.headers["X-Signed"] = request.path

    app = application()
    app.on_response_prepare.append(sign)
    return app


def with_domains() -> web.Application:
    app, domain = application(), web.Application()
    domain.router.add_get("/json", CASES_HANDLER)
    domain["name"] = "domain"
    app.add_domain("other.org", domain)
    return app


@pytest.mark.parametrize("app", [with_middlewares, with_signals, with_domains])
@pytest.mark.filterwarnings("ignore::aiohttp.web.NotAppKeyWarning")
def test_any_application_gives_the_same_answers(
    serve: Callable[..., Pair], app: Callable[[], web.Application]
) -> None:
    pair = serve(app)
    more = {f"GET {target}": request(target) for target in ("/more/json", "/more/x", "/json//")}
    more["domain"] = request("/json").replace(b"test", b"other.org")
    for name, case in (CASES | more).items():
        if name not in STRICTER:
            print(name)
            pair.compare(case, PROBE)
