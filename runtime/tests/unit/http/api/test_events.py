"""Server-Sent Events: what a client gets, and when the endpoint's iterator ends."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import ClientError, web

from api_hour import API, Event, Header
from api_hour.http.api import events
from runtime.tests.unit.http.api.serving import Asking, ask, serving

Stream = AsyncIterator[Event[Any]]


async def numbered(last_event_id: Header[int] = -1) -> AsyncIterator[Event[dict[str, int]]]:
    for number in range(last_event_id + 1, 3):
        yield Event({"n": number}, id=number, name="number")


async def plain() -> Stream:
    yield Event("a\nb", retry=1.5)
    yield Event(None)


async def nothing() -> Stream:
    if not STATUSES:
        yield Event(1)


async def returned() -> Stream:
    return plain()


async def refusing() -> Stream:
    raise web.HTTPNotFound(text="There is no such feed")
    yield Event(1)


async def unconnected() -> Stream:
    raise ConnectionRefusedError("the broker is down")
    yield Event(1)


async def unwritable() -> Stream:
    yield Event(object())


async def no_event() -> AsyncIterator[Event[int]]:
    yield 5  # type: ignore[misc]


async def failing_late() -> Stream:
    yield Event(1)
    raise ConnectionRefusedError("the broker is down")


def application(*endpoints: Callable[..., Any]) -> web.Application:
    app = web.Application()
    api = API(app, title="Test", version="1")
    for endpoint in endpoints:
        api.get("/" if len(endpoints) == 1 else f"/{endpoint.__name__}", endpoint)
    return app


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "not fast"])
def test_events_come_in_order_with_their_ids_and_names(fast: bool) -> None:
    answer = ask(application(numbered), "GET", "/", fast=fast)
    assert answer.text == "".join(
        f'id: {number}\nevent: number\ndata: {{"n":{number}}}\n\n' for number in range(3)
    )
    assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_client_that_comes_back_goes_on_after_its_last_event() -> None:
    answer = ask(application(numbered), "GET", "/", headers={"Last-Event-ID": "1"})
    assert answer.text == 'id: 2\nevent: number\ndata: {"n":2}\n\n'


TEXTS = {
    plain: 'retry: 1500\ndata: "a\\nb"\n\ndata: null\n\n',
    returned: 'retry: 1500\ndata: "a\\nb"\n\ndata: null\n\n',
    nothing: "",
}


@pytest.mark.parametrize("endpoint", TEXTS, ids=lambda endpoint: endpoint.__name__)
def test_what_is_yielded_is_what_is_sent(endpoint: Callable[[], Stream]) -> None:
    answer = ask(application(endpoint), "GET", "/")
    assert (answer.status, answer.text) == (200, TEXTS[endpoint])


@pytest.mark.parametrize("bad", ["a\nb", "a\rb", "a\0b"], ids=ascii)
def test_an_event_with_a_line_break_in_its_name_or_id_is_refused(bad: str) -> None:
    for options in ({"name": bad}, {"id": bad}):
        with pytest.raises(ValueError, match="may have a line break or NUL"):
            Event(1, **options)  # type: ignore[arg-type]


STATUSES = {refusing: 404, unconnected: 500, unwritable: 500, no_event: 500}


@pytest.mark.parametrize("endpoint", STATUSES, ids=lambda endpoint: endpoint.__name__)
def test_an_error_before_the_first_event_has_its_status(endpoint: Callable[[], Stream]) -> None:
    answer = ask(application(endpoint), "GET", "/")
    assert answer.status == answer.json["status"] == STATUSES[endpoint]
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_an_error_after_the_first_event_breaks_the_stream_and_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(ClientError):
        ask(application(failing_late), "GET", "/")
    assert "the broker is down" in caplog.text


def test_head_of_a_stream_has_its_headers_and_starts_nothing() -> None:
    started = []

    async def endpoint() -> Stream:
        started.append(True)
        yield Event(1)

    answer = ask(application(endpoint), "HEAD", "/")
    assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert not started


class Feed:
    """An endpoint that sends one event, then waits; ``closed`` is set when it is closed."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    async def __call__(self) -> Stream:
        try:
            yield Event(1)
            await asyncio.Event().wait()
        finally:
            self.closed.set()


def play(scene: Callable[[Feed, Asking, Any], Awaitable[None]]) -> None:
    async def run() -> None:
        feed = Feed()
        async with serving(application(feed)) as (asking, server), asyncio.timeout(20):
            await scene(feed, asking, server)

    asyncio.run(run())


def test_comments_keep_a_silent_stream_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "KEEP_ALIVE", 0.01)

    async def scene(feed: Feed, asking: Asking, _server: Any) -> None:
        async with asking.session.get("/") as response:
            for expected in (b"data: 1\n", b"\n", b": keep-alive\n", b"\n", b": keep-alive\n"):
                assert await response.content.readline() == expected
            assert not feed.closed.is_set()

    play(scene)


def test_a_stream_without_an_event_begins_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "FIRST", 0.01)

    async def silent() -> Stream:
        await asyncio.Event().wait()
        yield Event(1)

    async def run() -> None:
        async with (
            asyncio.timeout(20),
            serving(application(silent)) as (asking, _),
            asking.session.get("/") as response,
        ):
            assert await response.content.readline() == b": keep-alive\n"

    asyncio.run(run())


def test_the_iterator_is_closed_when_its_client_leaves(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(events, "KEEP_ALIVE", 0.01)

    async def scene(feed: Feed, asking: Asking, _server: Any) -> None:
        response = await asking.session.get("/")
        assert await response.content.readline() == b"data: 1\n"
        response.close()
        await feed.closed.wait()

    play(scene)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_drain_ends_a_stream_with_the_time_to_come_back() -> None:
    async def scene(feed: Feed, asking: Asking, server: Any) -> None:
        async with asking.session.get("/") as response:
            assert await response.content.readline() == b"data: 1\n"
            await server.drain(asyncio.get_running_loop().time() + 10)
            rest = (await response.content.read()).decode()
        assert feed.closed.is_set()
        assert rest.startswith("\nretry: ")
        assert rest.endswith("\n\n")
        low, high = events.RETRY
        assert low <= int(rest.split()[1]) <= high

    play(scene)
