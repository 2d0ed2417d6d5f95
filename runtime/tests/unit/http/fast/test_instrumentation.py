"""Whoever replaces a method of aiohttp is called: aiohttp serves then, and the log says so once."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web, web_protocol, web_request, web_response
from aiohttp.web_urldispatcher import UrlDispatcher

from api_hour.http.fast import instrumentation
from runtime.tests.unit.http.endpoints import application
from testkit.wire import ours, request


async def named(request: web.Request) -> web.Response:
    """Answer with the name of the task that serves: that of the fast path is "request"."""
    task = asyncio.current_task()
    assert task is not None
    return web.Response(text=task.get_name())


def is_fast(app: web.Application) -> bool:
    """Serve, and return whether the fast path did."""

    async def scenario() -> bool:
        async with ours(app) as service:
            heard, _ = await service.ask(request("/named"))
            assert heard.startswith(b"HTTP/1.1 200 OK")
            return heard.endswith(b"\r\n\r\nrequest")

    return asyncio.run(scenario())


def with_named(app: web.Application) -> web.Application:
    app.router.add_get("/named", named)
    return app


def test_an_application_as_it_is_takes_the_fast_path() -> None:
    assert is_fast(with_named(application()))
    assert not instrumentation.instrumented(application())


METHODS: list[tuple[type, str]] = [
    (web.Application, "_handle"),
    (web.Application, "_make_request"),
    (UrlDispatcher, "resolve"),
    (web_protocol.RequestHandler, "_handle_request"),
    (web_protocol.RequestHandler, "start"),
    (web_protocol.RequestHandler, "finish_response"),
    (web_request.BaseRequest, "__init__"),
    (web_response.StreamResponse, "prepare"),
    (web_response.Response, "write_eof"),
]


@pytest.mark.parametrize(("owner", "name"), METHODS, ids=[name for _, name in METHODS])
def test_a_method_that_is_replaced_before_the_start_is_called_and_told(
    owner: type, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    calls = []
    original = getattr(owner, name)

    def traced(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(name)
        return original(self, *args, **kwargs)

    async def late(app: web.Application) -> None:
        monkeypatch.setattr(owner, name, traced)

    instrumentation._tell.cache_clear()
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            app = with_named(web.Application())
            app.on_startup.append(late)
            assert not is_fast(app)
    assert calls
    told = [record.getMessage() for record in caplog.records if "fast path" in record.getMessage()]
    place = f"{__name__}.test_a_method_that_is_replaced"
    assert len(told) == 1
    assert told[0].startswith(f"No fast path, because {owner.__name__}.{name} is {place}")


seen: list[str] = []


@web.middleware
async def passing(request: web.Request, handler: Any) -> web.StreamResponse:
    seen.append(request.path)
    response: web.StreamResponse = await handler(request)
    return response


def with_a_middleware() -> type[web.Application]:
    class OwnApplication(web.Application):
        """A subclass that only adds a middleware, as OpenTelemetry's does."""

        def __init__(self, **kwargs: Any) -> None:
            super().__init__(middlewares=[passing], **kwargs)

    return OwnApplication


def with_a_handle() -> type[web.Application]:
    class Watching(web.Application):
        async def _handle(self, request: web.Request) -> web.StreamResponse:
            seen.append(request.path)
            return await super()._handle(request)

    return Watching


@pytest.mark.filterwarnings("ignore:Inheritance class")
@pytest.mark.parametrize(("make", "fast"), [(with_a_middleware, True), (with_a_handle, False)])
def test_a_subclass_is_called(make: Callable[[], type[web.Application]], fast: bool) -> None:
    seen.clear()
    assert is_fast(with_named(make()())) is fast
    assert seen == ["/named"]


def test_an_application_whose_own_method_is_replaced_is_called() -> None:
    app, calls = with_named(web.Application()), []
    original = app._handle

    async def traced(request: web.Request) -> web.StreamResponse:
        calls.append(request.path)
        return await original(request)

    app._handle = traced  # type: ignore[method-assign]
    assert not is_fast(app)
    assert calls == ["/named"]


class Wrapper:
    """A wrapper that is not a function, such as those of wrapt."""

    def __init__(self, wrapped: Any) -> None:
        self.__wrapped__ = wrapped

    def __get__(self, instance: Any, owner: type) -> Any:
        return self.__wrapped__.__get__(instance, owner)

    def __call__(self, *args: Any) -> Any:
        return self.__wrapped__(*args)


def test_a_wrapper_that_is_not_a_function_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(UrlDispatcher, "resolve", Wrapper(UrlDispatcher.resolve))
    assert not is_fast(with_named(web.Application()))
