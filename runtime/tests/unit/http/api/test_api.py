"""The class API: routes, groups and options, what they refuse at start, and the documents."""

# mypy: disable-error-code="empty-body"

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web

import api_hour
from api_hour import API, ConfigError, Event, Query, Reply
from runtime.tests.unit.http.api.serving import ask, served


async def answered() -> str:
    """Answer.

    With more words.
    """
    return "answered"


async def nothing() -> None: ...


async def by_key(key: str) -> str:
    return key


def api(**options: Any) -> API:
    return API(web.Application(), title="Test", version="1", **options)


def test_each_method_has_a_verb() -> None:
    typed = api()
    for method in ("get", "post", "put", "patch", "delete"):
        getattr(typed, method)("/", answered)
    typed.add("options", "/", answered)
    with served(typed._app) as client:
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            assert client(method, "/").status == 200
    assert [operation.method for operation in typed.operations][-1] == "OPTIONS"


def test_groups_have_a_prefix_tags_and_errors_beside_those_of_the_api() -> None:
    typed = api(tags=["all"], errors=[429])
    group = typed.group("/v2", tags=["v2"], errors={409: "It is there already."})
    group.get("", answered)
    group.get("/{key}", by_key, errors=[404], tags=["key"], summary="Read", deprecated=True)
    typed.get("/", answered)
    root, of_key, outside = typed.operations
    assert (root.path, root.tags) == ("/v2", ("all", "v2"))
    assert dict(root.errors) == {429: "", 409: "It is there already."}
    assert (root.summary, root.description) == ("Answer.", "With more words.")
    assert (of_key.path, of_key.tags) == ("/v2/{key}", ("all", "v2", "key"))
    assert dict(of_key.errors) == {429: "", 409: "It is there already.", 404: ""}
    assert (of_key.summary, of_key.deprecated) == ("Read", True)
    assert (outside.path, outside.tags, dict(outside.errors)) == ("/", ("all",), {429: ""})
    with served(typed._app) as client:
        assert client("GET", "/v2").json == "answered"
        assert client("GET", "/v2/a").json == "a"


def test_a_status_is_204_for_nothing_and_200_for_the_rest() -> None:
    typed = api()
    typed.get("/nothing", nothing)
    typed.get("/answered", answered)
    typed.post("/created", answered, status=201)
    assert [operation.status for operation in typed.operations] == [204, 200, 201]


def test_a_path_may_have_patterns_of_the_router() -> None:
    typed = api()
    typed.get(r"/{key:\d+}", by_key)
    typed.get("/files/{key:.*}", by_key)
    with served(typed._app) as client:
        assert client("GET", "/12").json == "12"
        assert client("GET", "/files/a/b").json == "a/b"
        assert client("GET", "/ab").status == 404


async def events() -> AsyncIterator[Event[int]]:
    yield Event(1)


async def replying() -> Reply[int]: ...


ERRORS: dict[str, tuple[Callable[[API], Any], str]] = {
    "unknown option": (
        lambda typed: typed.get("/", answered, limit=3),  # type: ignore[call-arg]
        "API: the route GET / has no option limit; there are status, errors, tags, summary",
    ),
    "status": (
        lambda typed: typed.get("/", answered, status=700),
        "API: GET /: status must be one of 200 to 599, got 700",
    ),
    "text as a status": (
        lambda typed: typed.get("/", answered, status="201"),  # type: ignore[arg-type]
        "API: GET /: status must be one of 200 to 599, got '201'",
    ),
    "status without a body": (
        lambda typed: typed.get("/", answered, status=204),
        "an answer of status 204 has no body: write -> None",
    ),
    "reply without a body": (
        lambda typed: typed.get("/", replying, status=304),
        "an answer of status 304 has no body: write -> None",
    ),
    "events without a body": (
        lambda typed: typed.get("/", events, status=204),
        "an answer of status 204 has no body: write -> None",
    ),
    "one error": (
        lambda typed: typed.get("/", answered, errors=404),  # type: ignore[arg-type]
        "API: errors must be a list of statuses, got 404",
    ),
    "no error": (
        lambda typed: typed.get("/", answered, errors=[200]),
        "API: errors are statuses of 400 to 599, got 200",
    ),
    "text as an error": (
        lambda typed: typed.get("/", answered, errors="404"),  # type: ignore[arg-type]
        "API: errors are statuses of 400 to 599, got '4'",
    ),
    "one tag": (
        lambda typed: typed.get("/", answered, tags="a"),
        "API: tags must be a list, got 'a'",
    ),
    "limit": (
        lambda typed: typed.get("/", answered, body_limit=0),
        "API: GET /: body_limit must be 1 or more, got 0",
    ),
    "path": (
        lambda typed: typed.get("records", answered),
        "API: the path 'records' cannot be one",
    ),
    "path with a brace": (
        lambda typed: typed.get("/{key", answered),
        "API: the path '/{key' cannot be one",
    ),
    "path of a number": (
        lambda typed: typed.get(5, answered),  # type: ignore[arg-type]
        "API: the path '5' cannot be one",
    ),
    "prefix": (
        lambda typed: typed.group("v2"),
        "API: a prefix begins with / and does not end with it: 'v2'",
    ),
    "prefix with an end": (
        lambda typed: typed.group("/v2/"),
        "API: a prefix begins with / and does not end with it: '/v2/'",
    ),
    "method": (
        lambda typed: typed.add("G ET", "/", answered),
        "API: G ET /: G ET is not allowed HTTP method",
    ),
    "second api": (
        lambda typed: API(typed._app, title="Test", version="2"),
        "API: the application has one already; group() parts its routes",
    ),
    "application": (
        lambda _: API(object(), title="Test", version="2"),  # type: ignore[arg-type]
        "API needs an aiohttp.web.Application, got <object object",
    ),
}


@pytest.mark.parametrize("kind", ERRORS)
def test_what_cannot_be_served_is_a_config_error_at_start(kind: str) -> None:
    add, message = ERRORS[kind]
    with pytest.raises(ConfigError) as error:
        add(api())
    assert message in str(error.value)


@pytest.mark.parametrize("first", ["typed", "plain"])
def test_a_route_that_another_one_hides_is_a_config_error(first: str) -> None:
    async def plain(request: web.Request) -> web.Response: ...

    typed = api()
    if first == "typed":
        typed.get("/{key}", by_key)
    else:
        typed._app.router.add_get("/{key}", plain)
    typed.get("/between", answered)
    with pytest.raises(ConfigError, match=r"API: GET /\{key\} has an endpoint already"):
        typed.get("/{key}", by_key)
    typed.post("/{key}", by_key)


def test_a_route_after_the_start_is_a_config_error() -> None:
    typed = api()
    typed.get("/", answered)
    assert ask(typed._app, "GET", "/").status == 200
    with pytest.raises(ConfigError, match="API: GET /late comes too late: the server has started"):
        typed.get("/late", answered)


def test_documents_are_served_with_a_tag_and_only_if_they_are_wanted() -> None:
    typed = api(docs=True)
    typed.get("/", answered)
    with served(typed._app) as client:
        first = client("GET", "/openapi.json")
        assert first.status == 200
        assert first.json["paths"].keys() == {"/"}
        assert first.text.encode() == typed.document()
        tag = {"If-None-Match": first.headers["ETag"]}
        again = client("GET", "/openapi.json", headers=tag)
        assert (again.status, again.text) == (304, "")
        assert client("GET", "/openapi.json", headers={"If-None-Match": '"other"'}).status == 200
        assert client("GET", "/docs").status == 200
        assert client("GET", "/openapi.json?a=1").status == 200
    without = api()
    without.get("/", answered)
    with served(without._app) as client:
        assert client("GET", "/openapi.json").status == 404
        assert client("GET", "/docs").status == 404


def test_the_server_gives_the_document_of_its_application() -> None:
    typed = api()
    typed.get("/", answered)
    given = api_hour.HTTPServer(typed._app).document()
    assert given is not None
    assert json.loads(given) == json.loads(typed.document())


def test_an_api_of_a_subapplication_is_served_below_it() -> None:
    async def number(n: Query[int]) -> int:
        return n

    below, app = api(), web.Application()
    below.get("/number", number)
    app.add_subapp("/below", below._app)
    with served(app) as client:
        assert client("GET", "/below/number?n=1").json == 1
        assert client("GET", "/below/number?n=x").faults == [("query", "n", "must be an integer")]
