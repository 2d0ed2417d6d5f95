"""The fast path finds what aiohttp's dispatcher finds, in any application, for any method."""

import asyncio
import tempfile
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import hdrs, web
from hypothesis import example, given
from hypothesis import strategies as st
from yarl import URL

from api_hour.http.fast.route_table import RouteTable
from runtime.tests.examples import SAME, bounded, count
from testkit.wire import ours, request, theirs

EXAMPLES = count(150)
METHODS = [*sorted(hdrs.METH_ALL), "PROPFIND"]

Registration = Callable[[web.Application], None]


def handler(name: str) -> Any:
    """Return a handler that tells how it was found."""

    async def tell(request: web.Request) -> web.Response:
        info, apps = request.match_info, [app["name"] for app in request.match_info.apps]
        return web.Response(
            text=f"{name} {dict(info)} {apps} {request.app['name']} {request.get('seen')}"
        )

    return tell


class View(web.View):
    async def get(self) -> web.Response:
        return await handler("view")(self.request)  # type: ignore[no-any-return]


@web.middleware
async def marking(request: web.Request, handler: Any) -> web.StreamResponse:
    request["seen"] = [*request.get("seen", []), request.app["name"]]
    response: web.StreamResponse = await handler(request)
    return response


# What an application may hold. Few words, so that resources hide each other.

WORDS = st.sampled_from(["a", "b", "a.b", "a-b", "é", "a b", "%41", "a%2Fb", "a:b", "_", "(a)"])
VARIABLES = st.sampled_from(
    ["{x}", "{y}", "{x:[a-z]+}", "{x:.*}", "{x:a|b}", "{x:[^{}/]*}", "{x:\\d+}", "{x}.{y}",
     "a{x}", "{x}b", "{x:a/?}", "{x:(?P<z>b)?.*}", "{x:}"]
)  # fmt: skip
PATHS = st.builds(
    lambda parts, end: "/" + "/".join(parts) + end,
    st.lists(st.one_of(WORDS, WORDS, VARIABLES), max_size=3),
    st.sampled_from(["", "", "/"]),
)
ROUTE_METHODS = st.sampled_from(["GET", "GET", "POST", "*", "*", "HEAD", "PROPFIND", "delete"])
NAMES = st.integers(0, 999).map("h{}".format)


def add_route(method: str, path: str, name: str) -> Registration:
    return lambda app: void(app.router.add_route(method, path, handler(name)))


def add_get(path: str, name: str, allow_head: bool) -> Registration:
    return lambda app: void(app.router.add_get(path, handler(name), allow_head=allow_head))


def add_resource(path: str, methods: list[str], name: str) -> Registration:
    def add(app: web.Application) -> None:
        resource = app.router.add_resource(path)
        for method in methods:
            resource.add_route(method, handler(f"{name}-{method}"))

    return add


def add_view(path: str) -> Registration:
    return lambda app: void(app.router.add_view(path, View))


def add_routes(path: str, name: str) -> Registration:
    return lambda app: void(app.add_routes([web.get(path, handler(name)), web.view(path, View)]))


def add_static(path: str) -> Registration:
    return lambda app: void(app.router.add_static(path.rstrip("/") or "/a", tempfile.gettempdir()))


def add_subapp(prefix: str, parts: list[Registration], layers: int) -> Registration:
    def add(app: web.Application) -> None:
        app.add_subapp(prefix.rstrip("/") or "/a", application(parts, layers, prefix))

    return add


def add_domain(domain: str, parts: list[Registration]) -> Registration:
    return lambda app: void(app.add_domain(domain, application(parts, 0, domain)))


def void(_: object) -> None:
    """Forget what a registration returned."""


def application(parts: list[Registration], layers: int, name: str = "root") -> web.Application:
    """Return an application of such parts; leave out those that aiohttp refuses."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        app = web.Application(middlewares=[marking] * layers)
        app["name"] = name
        for add in parts:
            try:
                add(app)
            except (RuntimeError, ValueError, AssertionError):
                continue
        return app


LAYERS = st.sampled_from([0, 0, 1, 2])
ROUTES = st.one_of(
    st.builds(add_route, ROUTE_METHODS, PATHS, NAMES),
    st.builds(add_route, ROUTE_METHODS, PATHS, NAMES),
    st.builds(add_get, PATHS, NAMES, st.booleans()),
    st.builds(add_resource, PATHS, st.lists(ROUTE_METHODS, max_size=3), NAMES),
    st.builds(add_view, PATHS),
    st.builds(add_routes, PATHS, NAMES),
    st.builds(add_static, PATHS),
)
PREFIXES = st.sampled_from(["/a", "/a/b", "/b", "/a.b", "/%41"])
SUBAPPS = st.builds(
    add_subapp,
    PREFIXES,
    st.lists(
        st.one_of(ROUTES, st.builds(add_subapp, PREFIXES, st.lists(ROUTES, max_size=3), LAYERS)),
        max_size=4,
    ),
    LAYERS,
)
DOMAINS = st.builds(
    add_domain, st.sampled_from(["test", "*.test", "other"]), st.lists(ROUTES, max_size=3)
)
PARTS = st.lists(st.one_of(*[ROUTES] * 6, *[SUBAPPS] * 2), min_size=1, max_size=8)
PARTS_AND_DOMAINS = st.lists(st.one_of(*[ROUTES] * 6, SUBAPPS, DOMAINS), min_size=1, max_size=8)

ASKED = st.builds(
    lambda parts, end: "/" + "/".join(parts) + end,
    st.lists(st.sampled_from(["a", "b", "a.b", "a-b", "1", "%C3%A9", "%41", "%2F", "a%20b", "",
                              "ab", "a:b", "_", "(a)", "..", "x", "%", "+"]), max_size=4),
    st.sampled_from(["", "", "/"]),
)  # fmt: skip

# The table in which the fast path once found another route than aiohttp.
HIDING = [add_route("*", "/a", "right"), add_get("/{x}", "wrong", True)]


def resolve(app: web.Application, method: str, path: str) -> Any:
    """Return what the dispatcher finds, or the error at which it fails.

    The URL is built as the parser builds it; the dispatcher's coroutine never suspends.
    """
    asked = SimpleNamespace(method=method, rel_url=URL.build(path=path, encoded=True))
    try:
        app.router.resolve(cast(web.Request, asked)).send(None)
    except StopIteration as end:
        return end.value
    except TypeError as error:
        return error


@bounded(EXAMPLES * 2, SAME)
@example(HIDING, 0, ["/a", "/b"])
@example([add_route("*", "/", "any"), add_route("*", "/{x:.*}", "rest")], 2, ["/", "/a"])
@example([add_resource("/a", ["POST"], "one"), add_route("*", "/{x}", "two")], 0, ["/a"])
@given(PARTS, LAYERS, st.lists(ASKED, min_size=1, max_size=6))
@pytest.mark.filterwarnings("ignore::aiohttp.web.NotAppKeyWarning")
def test_the_table_finds_what_the_dispatcher_finds(
    parts: list[Registration], layers: int, paths: list[str]
) -> None:
    app = application(parts, layers)
    app.freeze()
    table = RouteTable(app)
    plain = {route.resource.canonical for route in app.router.routes() if route.resource}
    for path in (*paths, *(path for path in plain if "{" not in path and path)):
        for method in METHODS:
            check(app, table, method, path)


def check(app: web.Application, table: RouteTable, method: str, path: str) -> None:
    """Compare what the table and the dispatcher find; the table may leave it to the dispatcher."""
    found = table.plain.get(method + path) or table.find(method, path)
    if found is None:
        return
    route, variables = found
    expected = resolve(app, method, path)
    assert not isinstance(expected, TypeError)
    assert route.route is expected.route
    assert variables == dict(expected)
    expected.add_app(app)
    info = route.match_info(variables)
    assert info.apps == expected.apps
    assert info.current_app is expected.current_app


def test_the_table_finds_most_plain_routes() -> None:
    """The property above would also hold for an empty table."""
    app = application([add_route("*", "/a", "any"), add_get("/b/{x}", "dynamic", True)], 1)
    app.freeze()
    table = RouteTable(app)
    for method in METHODS:
        found = table.plain.get(f"{method}/a") or table.find(method, "/a")
        assert found is not None
    assert table.find("HEAD", "/b/1") is not None
    assert table.find("POST", "/b/1") is None


def test_a_route_that_is_added_later_is_found_or_left_to_the_dispatcher() -> None:
    app = application([], 0)
    hiding, hidden = app.router.add_resource("/a"), app.router.add_resource("/{x}")
    hidden.add_route("*", handler("hidden"))
    app.freeze()
    table = RouteTable(app)
    hiding.add_route("GET", handler("later"))
    check(app, table, "GET", "/a")
    check(app, table, "POST", "/a")
    assert table.plain.get("GET/a") or table.find("GET", "/a") is None


@bounded(max(EXAMPLES // 2, 1), SAME)
@example(HIDING, 0, ["/a"], "GET")
@example([add_get("/{x:(?P<z>b)?.*}", "none", True)], 0, ["/a"], "GET")
@given(PARTS_AND_DOMAINS, LAYERS, st.lists(ASKED, min_size=1, max_size=4), st.sampled_from(METHODS))
@pytest.mark.filterwarnings("ignore::aiohttp.web.NotAppKeyWarning")
def test_a_request_reaches_the_same_endpoint_whole_and_in_pieces(
    parts: list[Registration], layers: int, paths: list[str], method: str
) -> None:
    async def scenario() -> None:
        async with (
            ours(application(parts, layers)) as mine,
            theirs(application(parts, layers)) as stock,
        ):
            for path in paths:
                data = request(path, method=method)
                expected = await stock.ask(data)
                assert await mine.ask(data) == expected
                cut = 3 + len(path) % len(data)
                assert await mine.ask(data[:cut], data[cut:]) == expected

    if method != "CONNECT":
        asyncio.run(scenario())
