"""Compiled handlers: bodies, providers and answers, on both paths of the server."""

import asyncio
import dataclasses
import datetime
import enum
import threading
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from aiohttp import web
from msgspec import Struct

import api_hour
from api_hour import API, Body, Header, Query, Reply
from api_hour.exceptions import DatabaseUnavailable
from runtime.tests.unit.http.api.serving import Client, ask, served, serving

JSON = {"Content-Type": "application/json"}
PROBLEM = "application/problem+json"
LIMIT = 100_000  # bytes of a body


class Color(enum.Enum):
    RED = "red"


class Record(Struct):
    id: int
    title: str = ""


@dataclasses.dataclass
class Point:
    x: int
    color: Color


class Unwritable:
    pass


VALUES: dict[str, tuple[Any, Any, Any]] = {  # the declared type, what is returned, its JSON
    "struct": (Record, Record(1, "é"), {"id": 1, "title": "é"}),
    "dataclass": (Point, Point(1, Color.RED), {"x": 1, "color": "red"}),
    "dict": (dict[str, int], {"a": 1}, {"a": 1}),
    "dict-by-number": (dict[int, int], {1: 2}, {"1": 2}),
    "list": (list[Record], [Record(1)], [{"id": 1, "title": ""}]),
    "str": (str, "a", "a"),
    "number": (int, 10**30, 10**30),
    "bool": (bool, False, False),
    "decimal": (Decimal, Decimal("1.10"), "1.10"),
    "datetime": (
        datetime.datetime,
        datetime.datetime(2026, 1, 31, tzinfo=datetime.UTC),
        "2026-01-31T00:00:00Z",
    ),
    "date": (datetime.date, datetime.date(2026, 1, 31), "2026-01-31"),
    "uuid": (uuid.UUID, uuid.UUID(int=1), str(uuid.UUID(int=1))),
    "enum": (Color, Color.RED, "red"),
    "set": (set[int], {1}, [1]),
    "bytes": (bytes, b"hi", "aGk="),
    "any": (Any, [None], [None]),
    "object": (object, {"a": None}, {"a": None}),
    "union": (Record | str, "a", "a"),
    "reply": (Reply[Record], Reply(Record(1)), {"id": 1, "title": ""}),
    "bare-reply": (Reply, Reply({"a": 1}), {"a": 1}),
    "reply-of-null": (Reply[int | None], Reply(None), None),
}
FAILURES: dict[str, Any] = {  # what cannot be written
    "object": Unwritable(),
    "nested": [Record(1), Unwritable()],
    "surrogate": "\ud800",
    "key": {(1, 2): 1},
}
calls: list[str] = []


async def nothing() -> None:
    calls.append("nothing")


async def created() -> Reply[Record]:
    return Reply(Record(1), status=202, headers={"Location": "/1"})


async def streamed(request: web.Request) -> Record:
    response = web.StreamResponse(status=206)
    await response.prepare(request)
    await response.write(b"one two")
    return response  # type: ignore[return-value]


async def own_response() -> Record | web.Response:
    return web.Response(text="own", status=203)


async def only_response() -> web.Response:
    return web.Response(text="only")


async def not_found() -> Record:
    raise web.HTTPNotFound(text="There is no such record")


async def failing() -> Record:
    raise ZeroDivisionError


async def wrong_value() -> Record:
    raise ValueError("a service's own")


async def wrong_type() -> Record:
    raise TypeError("a service's own")


async def unavailable() -> Record:
    raise DatabaseUnavailable("refused")


@api_hour.threaded
def in_thread(n: Query[int]) -> list[int | str]:
    api_hour.from_thread(nothing())
    return [n, threading.current_thread().name.partition("-")[0]]


async def read(record: Body[Record], n: Query[int] = 0) -> list[Any]:
    return [record, n]


async def read_optional(record: Body[Record | None] = None) -> Any:
    return record


async def read_any(value: Body[Any]) -> Any:
    return value


def application() -> web.Application:
    api = API(web.Application(client_max_size=LIMIT), title="Test", version="1")

    def answer(path: str, kind: Any, value: Any) -> None:
        async def endpoint() -> kind:
            return value

        api.get(path, endpoint)

    for name, (kind, value, _) in VALUES.items():
        answer(f"/values/{name}", kind, value)
    for name, value in FAILURES.items():
        answer(f"/failures/{name}", Any, value)
    for function in (nothing, created, streamed, own_response, only_response, in_thread):
        api.get(f"/{function.__name__}", function)
    for function in (not_found, failing, wrong_value, wrong_type, unavailable):
        api.get(f"/{function.__name__}", function)
    api.get("/made", read_nothing, status=203)
    api.post("/read", read)
    api.put("/read", read)
    api.patch("/read", read)
    api.delete("/read", read)
    api.post("/optional", read_optional)
    api.post("/any", read_any)
    api.post("/small", read, body_limit=12)
    api.post("/large", read, body_limit=3 * LIMIT)
    return api._app


async def read_nothing() -> Record:
    return Record(1)


@pytest.fixture(scope="module", params=[True, False], ids=["fast", "not fast"])
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    with served(application(), fast=request.param) as client:
        yield client


@pytest.mark.parametrize("name", VALUES)
def test_every_type_that_msgspec_writes_is_an_answer(client: Client, name: str) -> None:
    answer = client("GET", f"/values/{name}")
    assert (answer.status, answer.json) == (200, VALUES[name][2])
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"


@pytest.mark.parametrize("name", FAILURES)
def test_an_answer_that_cannot_be_written_is_a_logged_500(
    client: Client, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer = client("GET", f"/failures/{name}")
    assert (answer.status, answer.json["title"]) == (500, "Internal Server Error")
    assert answer.headers["Content-Type"] == PROBLEM
    assert "Location" not in answer.headers
    assert f"GET /failures/{name}: the endpoint failed" in caplog.text


def test_a_reply_that_cannot_be_written_fails_where_it_is_made() -> None:
    with pytest.raises(TypeError, match="Unwritable is unsupported"):
        Reply(Unwritable(), status=201, headers={"Location": "/1"})


def test_none_is_a_204_without_a_body(client: Client) -> None:
    answer = client("GET", "/nothing")
    assert (answer.status, answer.text) == (204, "")
    assert "Content-Type" not in answer.headers


def test_a_reply_has_its_own_status_and_headers(client: Client) -> None:
    answer = client("GET", "/created")
    assert (answer.status, answer.json) == (202, {"id": 1, "title": ""})
    assert answer.headers["Location"] == "/1"


def test_the_status_of_a_route_is_that_of_its_answers(client: Client) -> None:
    assert client("GET", "/made").status == 203


def test_a_response_passes_through_whatever_was_declared(client: Client) -> None:
    answers = [client("GET", f"/{path}") for path in ("streamed", "own_response", "only_response")]
    assert [(answer.status, answer.text) for answer in answers] == [
        (206, "one two"),
        (203, "own"),
        (200, "only"),
    ]


ERRORS = {
    "not_found": (404, "There is no such record"),
    "failing": (500, "Internal Server Error"),
    "wrong_value": (500, "Internal Server Error"),
    "wrong_type": (500, "Internal Server Error"),
    "unavailable": (503, "The database is unavailable"),
    "nowhere": (404, "Not Found"),
}


@pytest.mark.parametrize("path", ERRORS)
def test_errors_of_endpoints_are_problems(client: Client, path: str) -> None:
    answer = client("GET", f"/{path}")
    assert (answer.status, answer.json["detail"]) == ERRORS[path]
    assert answer.headers["Content-Type"] == PROBLEM


def test_another_method_is_a_405_that_names_those_there_are(client: Client) -> None:
    answer = client("POST", "/created")
    assert (answer.status, answer.headers["Allow"]) == (405, "GET,HEAD")
    assert answer.headers["Content-Type"] == PROBLEM


@pytest.mark.parametrize("path", ["created", "in_thread?n=1", "failing", "in_thread", "nothing"])
def test_head_has_the_headers_of_get_and_no_body(client: Client, path: str) -> None:
    head, get = client("HEAD", f"/{path}"), client("GET", f"/{path}")
    assert (head.status, head.text) == (get.status, "")
    assert head.headers.get("Content-Length") == get.headers.get("Content-Length")


def test_a_threaded_endpoint_runs_in_a_thread_and_reaches_the_loop(client: Client) -> None:
    calls.clear()
    assert client("GET", "/in_thread?n=1").json == [1, "endpoint"]
    assert calls == ["nothing"]
    assert client("GET", "/in_thread?n=x").status == 422


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_body_is_read_by_every_method_that_has_one(client: Client, method: str) -> None:
    answer = client(method, "/read?n=1", json={"id": 5, "title": "é"})
    assert answer.json == [{"id": 5, "title": "é"}, 1]


BODIES: dict[str, tuple[bytes, dict[str, str], int, str]] = {
    "empty": (b"", JSON, 400, "The body is empty"),
    "blank": (b" \n", JSON, 400, "The body is empty"),
    "cut off": (b'{"id": 1', JSON, 400, "The body is not JSON: Input data was truncated"),
    "not UTF-8": (b'{"id": 1, "x": "\xff"}', JSON, 400, "The body is not UTF-8 (byte 16)"),
    # Or not JSON, because it ends too soon: how deep is too deep depends on Python's version.
    "too deep": (b"[" * LIMIT, JSON, 400, "The body is n"),
    "null": (b"null", JSON, 422, "The body must be an object, got null"),
    "of another type": (b'{"id": "1"}', JSON, 422, "id must be an integer, got a string"),
    "too large": (b" " * (LIMIT + 1), JSON, 413, f"The body is larger than {LIMIT} bytes"),
    "without a type": (b"{}", {"Content-Type": ""}, 415, "Send the body with Content-Type: appl"),
    "text": (b"{}", {"Content-Type": "text/plain"}, 415, "Send the body with Content-Type: appli"),
    "a form": (b"a=1", {"Content-Type": "application/x-www-form-urlencoded"}, 415, "Send the body"),
    "UTF-16": (
        b"{}",
        {"Content-Type": "application/json; charset=utf-16"},
        415,
        "The body must be",
    ),
}


@pytest.mark.parametrize("kind", BODIES)
def test_a_body_that_cannot_be_read_is_refused_by_its_own_status(client: Client, kind: str) -> None:
    body, headers, status, detail = BODIES[kind]
    answer = client("POST", "/read", data=body, headers=headers)
    assert answer.status == status
    assert answer.json["detail"].startswith(detail)
    assert answer.headers["Content-Type"] == PROBLEM


@pytest.mark.parametrize(
    "media", ["application/json; charset=UTF-8", "APPLICATION/JSON", "application/merge-patch+json"]
)
def test_every_spelling_of_json_is_read(client: Client, media: str) -> None:
    answer = client("POST", "/read", data=b'{"id":1}', headers={"Content-Type": media})
    assert answer.status == 200


def test_of_a_repeated_key_the_last_counts(client: Client) -> None:
    answer = client("POST", "/read", data=b'{"id":"a","id":2}', headers=JSON)
    assert answer.status == 422
    answer = client("POST", "/read", data=b'{"id":1,"id":2}', headers=JSON)
    assert answer.json[0]["id"] == 2


def test_a_body_of_any_type_is_read(client: Client) -> None:
    for value in (1, "a", [1.5], {"a": [None]}):
        assert client("POST", "/any", json=value).json == value


def test_an_optional_body_may_be_absent_null_or_wrong(client: Client) -> None:
    assert client("POST", "/optional").json is None
    assert client("POST", "/optional", data=b"null", headers=JSON).json is None
    assert client("POST", "/optional", json={"id": 1}).json == {"id": 1, "title": ""}
    assert client("POST", "/optional", json={"id": "1"}).status == 422
    assert client("POST", "/optional?a=1").faults == [("query", "a", "is not known")]
    assert client("POST", "/optional", data=b"[", headers=JSON).status == 400


def test_a_route_may_have_a_smaller_or_a_larger_limit_of_its_body(client: Client) -> None:
    fits, larger = b'{"id":1}', b'{"id":1}' + b" " * LIMIT
    assert client("POST", "/small", data=fits, headers=JSON).status == 200
    assert client("POST", "/small", data=larger, headers=JSON).status == 413
    assert client("POST", "/large", data=larger, headers=JSON).status == 200
    assert client("POST", "/large", data=larger * 3, headers=JSON).status == 413


class User:
    def __init__(self, name: str) -> None:
        self.name = name


class Tenant(User):
    pass


async def user(x_user: Header[str], request: web.Request) -> User:
    calls.append("user")
    if x_user == "nobody":
        raise web.HTTPForbidden(text="You may not")
    return User(x_user)


async def tenant(owner: User) -> Tenant:
    calls.append("tenant")
    return Tenant(f"tenant of {owner.name}")


class Draft(Struct):
    title: str


class Checked:
    def __init__(self, draft: Draft) -> None:
        self.draft = draft


async def checked(draft: Body[Draft]) -> Checked:
    calls.append("checked")
    return Checked(draft)


@pytest.fixture(scope="module", params=[True, False], ids=["fast", "not fast"])
def providing(request: pytest.FixtureRequest) -> Iterator[Client]:
    api = API(web.Application(), title="Test", version="1")
    api.provide(user)
    api.provide(tenant)
    api.provide(checked)
    api.provide(5, as_=Unwritable)

    async def endpoint(
        made: Checked, who: User, of: Tenant, n: Query[int], draft: Body[Draft], five: Unwritable
    ) -> list[Any]:
        calls.append("endpoint")
        assert made.draft is draft
        return [draft.title, who.name, of.name, n, five]

    api.post("/", endpoint)
    with served(api._app, fast=request.param) as client:
        yield client


def test_providers_are_called_once_a_request_and_those_of_the_body_last(providing: Client) -> None:
    for _ in range(2):
        calls.clear()
        answer = providing("POST", "/?n=1", json={"title": "a"}, headers={"X-User": "me"})
        assert answer.json == ["a", "me", "tenant of me", 1, 5]
        assert calls == ["user", "tenant", "checked", "endpoint"]


def test_what_a_provider_raises_is_the_answer_and_the_body_is_not_read(providing: Client) -> None:
    calls.clear()
    headers = {"X-User": "nobody", **JSON}
    answer = providing("POST", "/?n=1", data=b"not JSON", headers=headers)
    assert (answer.status, answer.json["detail"]) == (403, "You may not")
    assert calls == ["user"]


def test_a_provider_reads_the_request_by_the_rules_of_an_endpoint(providing: Client) -> None:
    calls.clear()
    answer = providing("POST", "/?n=x", json={"title": 1})
    assert answer.status == 422
    assert sorted(answer.faults) == [
        ("body", "title", "must be a string, got an integer"),
        ("header", "x-user", "is missing"),
        ("query", "n", "must be an integer"),
    ]
    assert calls == []


def test_a_provider_takes_the_path_of_each_endpoint_that_it_serves() -> None:
    async def load(id: int) -> User:
        if id > 5:
            raise web.HTTPNotFound(text=f"There is no user {id}")
        return User(f"user {id}")

    async def read(user: User) -> str:
        return user.name

    async def rename(id: int, user: User) -> list[Any]:
        return [id, user.name]

    app = web.Application()
    typed = API(app, title="Test", version="1")
    typed.provide(load)
    typed.get("/users/{id}", read)
    typed.put("/users/{id}/name", rename)
    with served(app) as client:
        assert client("GET", "/users/3").json == "user 3"
        assert client("PUT", "/users/3/name").json == [3, "user 3"]
        assert client("GET", "/users/9").json["detail"] == "There is no user 9"
        refused = client("GET", "/users/x")
    assert (refused.status, refused.faults) == (404, [("path", "id", "must be an integer")])


def test_requests_that_overlap_do_not_share_what_is_provided() -> None:
    entered, both = [], asyncio.Event()

    async def slow(n: Query[int]) -> User:
        entered.append(n)
        if len(entered) == 2:
            both.set()
        await both.wait()
        return User(str(n))

    async def endpoint(user: User, n: Query[int]) -> list[Any]:
        return [user.name, n]

    async def run() -> None:
        api = API(web.Application(), title="Test", version="1")
        api.provide(slow)
        api.get("/", endpoint)
        async with serving(api._app) as (asking, _):
            answers = await asyncio.gather(asking("GET", "/?n=1"), asking("GET", "/?n=2"))
        assert [answer.json for answer in answers] == [["1", 1], ["2", 2]]

    asyncio.run(run())


def test_an_endpoint_shares_an_application_with_plain_handlers() -> None:
    async def plain(request: web.Request) -> web.Response:
        raise web.HTTPConflict(text="plain")

    app = web.Application()
    app.router.add_get("/plain", plain)
    API(app, title="Test", version="1").get("/", only_response)
    answer = ask(app, "GET", "/plain")
    assert (answer.status, answer.json["detail"]) == (409, "plain")


def test_the_source_of_a_handler_can_be_read() -> None:
    app = web.Application()
    API(app, title="Test", version="1").get("/", only_response)
    [handler] = {route.handler for route in app.router.routes()}
    assert "return await endpoint()" in handler.__source__  # type: ignore[attr-defined]
    assert handler.__wrapped__ is only_response  # type: ignore[attr-defined]
