"""The route table finds what aiohttp's dispatcher finds, or leaves the request to it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from api_hour.http.fast.route_table import RouteTable
from runtime.tests.unit.http.endpoints import application


async def other(request: web.Request) -> web.Response:
    return web.Response()


def find(table: RouteTable, method: str, path: str) -> Any:
    """Look up as FastConnection does."""
    return table.plain.get(method + path) or table.find(method, path)


def resolve(app: web.Application, method: str, path: str) -> Any:
    """Ask the dispatcher."""
    return asyncio.run(app.router.resolve(make_mocked_request(method, path)))


PATHS = [
    "/json", "/hello/Ann", "/hello/json", "/numbers/42", "/numbers/x", "/rest/a/b/c", "/status/201",
    "/any/thing", "/view", "/sub/json", "/sub/Ann", "/sub/hidden", "/nowhere", "/", "/json/",
    "/trailing/", "/hello", "//json",
]  # fmt: skip


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "DELETE", "BREW"])
@pytest.mark.parametrize("path", PATHS)
def test_it_finds_the_route_that_the_dispatcher_finds(method: str, path: str) -> None:
    app = application()
    app.freeze()
    found = find(RouteTable(app), method, path)
    if found is None:
        return
    route, variables = found
    expected = resolve(app, method, path)
    assert route.route is expected.route
    assert variables == dict(expected)
    expected.add_app(app)
    info = route.match_info(variables)
    assert (info.apps, info.current_app) == (expected.apps, expected.current_app)


def test_it_finds_most_of_an_ordinary_application() -> None:
    app = application()
    app.freeze()
    table = RouteTable(app)
    for path in ("/json", "/hello/Ann", "/numbers/42", "/rest/a/b/c", "/sub/json"):
        assert find(table, "GET", path) is not None


def test_a_path_with_a_percent_sign_is_left_to_the_dispatcher() -> None:
    app = application()
    app.freeze()
    assert find(RouteTable(app), "GET", "/hello/Ann%20B") is None


class OwnResource(web.Resource):
    """A resource that may look at anything of a request."""

    canonical = "/own"

    def _match(self, path: str) -> dict[str, str] | None:
        return None

    def raw_match(self, path: str) -> bool:
        return False

    def add_prefix(self, prefix: str) -> None:
        raise NotImplementedError

    def get_info(self) -> Any:
        return {"path": "/own"}

    def url_for(self, **kwargs: str) -> Any:
        raise NotImplementedError


def with_an_own_resource() -> web.Application:
    app = web.Application()
    app.router.add_get("/json", other)
    app.router.register_resource(OwnResource())
    return app


def with_a_domain() -> web.Application:
    app, domain = web.Application(), web.Application()
    app.router.add_get("/json", other)
    domain.router.add_get("/json", other)
    app.add_domain("other.org", domain)
    return app


@pytest.mark.parametrize("make", [with_an_own_resource, with_a_domain])
def test_where_more_than_method_and_path_decide_the_table_is_empty(make: Any) -> None:
    app = make()
    app.freeze()
    assert find(RouteTable(app), "GET", "/json") is None


def test_static_files_and_everything_always_suspend(tmp_path: Path) -> None:
    app = web.Application()
    app.router.add_static("/files", tmp_path)
    app.freeze()
    table = RouteTable(app)
    assert table.always_suspending == ("*", "/files/")
    assert find(table, "GET", "/files/a.txt") is None


def test_a_handler_is_wrapped_in_its_middlewares_once() -> None:
    wrapped: list[str] = []

    @web.middleware
    async def marking(request: web.Request, handler: Any) -> web.StreamResponse:
        wrapped.append("called")
        response: web.StreamResponse = await handler(request)
        return response

    app = web.Application(middlewares=[marking, marking])
    app.router.add_get("/plain", other)
    app.freeze()
    route, _ = find(RouteTable(app), "GET", "/plain")
    asyncio.run(route.handler(make_mocked_request("GET", "/plain")))
    assert wrapped == ["called", "called"]
    assert route.name == "/plain"
