"""A refused request: one answer names every fault of every place."""

from collections.abc import Iterator
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
import pytest
from aiohttp import FormData, web
from msgspec import Meta, Struct

from api_hour import API, Body, Cookie, Form, Header, Query, Upload
from api_hour.http.errors import MAX_FAULTS
from runtime.tests.unit.http.api.serving import Client, served

JSON = {"Content-Type": "application/json"}
LIMIT = 5000  # bytes of a body


class New(Struct, forbid_unknown_fields=True):
    title: Annotated[str, Meta(min_length=1)]
    tags: list[int] = []


class Page(Struct):
    limit: Annotated[int, Meta(le=100)]
    after: str = ""


class Span(Struct):
    start: int
    end: int

    def __post_init__(self) -> None:
        if self.end < self.start:
            raise ValueError("the end is before the start")


class Photo(Struct):
    photo: Upload
    width: int
    title: str = ""


async def everything(
    id: int,
    page: Query[Page],
    flag: Query[bool],
    x_trace: Header[int],
    sizes: Header[list[int]],
    session: Cookie[int],
    new: Body[New],
) -> Any: ...


async def upload(n: Query[int], form: Form[Photo]) -> Any: ...


async def span(span: Query[Span]) -> list[int]:
    return [span.start, span.end]


async def constrained(n: Query[Annotated[int, Meta(multiple_of=2)]]) -> int:
    return n


async def body_span(span: Body[Span]) -> list[int]:
    return [span.start, span.end]


@pytest.fixture(scope="module", params=[True, False], ids=["fast", "not fast"])
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    api = API(web.Application(client_max_size=LIMIT), title="Test", version="1")
    api.post("/everything/{id}", everything)
    api.post("/upload", upload)
    api.get("/span", span)
    api.post("/span", body_span)
    api.get("/constrained", constrained)
    with served(api._app, fast=request.param) as client:
        yield client


def test_one_answer_names_the_faults_of_all_places(client: Client) -> None:
    answer = client(
        "POST",
        "/everything/1?limit=101&after=a&after=b&size=1&flag=maybe",
        headers={"X-Trace": "x", "Sizes": "1, b", "Cookie": "session=s"},
        json={"title": "", "tags": [1, "x"], "extra": 1},
    )
    assert answer.status == 422
    assert sorted(answer.faults) == [
        ("body", "extra", "is not known"),
        ("body", "tags[1]", "must be an integer, got a string"),
        ("body", "title", "must be a string of at least 1 character"),
        ("cookie", "session", "must be an integer"),
        ("header", "sizes[1]", "must be an integer"),
        ("header", "x-trace", "must be an integer"),
        ("query", "after", "may come once, and came 2 times"),
        ("query", "flag", "must be true or false, 1 or 0, yes or no, on or off"),
        ("query", "limit", "must be an integer <= 100"),
        ("query", "size", "is not known"),
    ]


def test_one_answer_names_all_that_is_missing(client: Client) -> None:
    answer = client("POST", "/everything/1", json={})
    assert sorted(answer.faults) == [
        ("body", "title", "is missing"),
        ("cookie", "session", "is missing"),
        ("header", "sizes", "is missing"),
        ("header", "x-trace", "is missing"),
        ("query", "flag", "is missing"),
        ("query", "limit", "is missing"),
    ]


def test_an_answer_has_the_form_of_a_problem(client: Client) -> None:
    answer = client("GET", "/constrained?n=x")
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json == {
        "type": "about:blank",
        "title": HTTPStatus(422).phrase,
        "status": 422,
        "detail": "n must be an integer",
        "errors": [{"in": "query", "field": "n", "message": "must be an integer"}],
        "error": {"status": 422, "message": "n must be an integer", "field": "n"},
    }


def test_a_wrong_path_is_a_404_whatever_else_is_wrong(client: Client) -> None:
    answer = client("POST", "/everything/x?limit=x", data=b"[", headers=JSON)
    assert answer.status == 404
    assert answer.faults == [("path", "id", "must be an integer")]


BODIES = {
    400: (b"[", JSON),
    413: (b" " * (LIMIT + 1), JSON),
    415: (b"{}", {"Content-Type": "text/plain"}),
}


@pytest.mark.parametrize("status", BODIES)
def test_a_body_that_nobody_can_read_hides_the_faults_of_the_query(
    client: Client, status: int
) -> None:
    body, headers = BODIES[status]
    assert client("POST", "/everything/1?limit=x", data=body, headers=headers).status == status


def test_the_faults_of_a_form_are_told_with_those_of_the_query(client: Client) -> None:
    form = FormData()
    form.add_field("photo", "no file")
    form.add_field("width", b"1", filename="a.txt")
    form.add_field("height", "1")
    expected = [
        ("form", "height", "is not known"),
        ("form", "photo", "must be a file"),
        ("form", "width", "must be an integer"),
    ]
    assert sorted(client("POST", "/upload?n=1", data=form).faults) == expected
    form = FormData({"photo": "no file", "width": "x", "height": "1"})
    answer = client("POST", "/upload?n=x", data=form)
    assert sorted(answer.faults) == [*expected, ("query", "n", "must be an integer")]


def test_what_only_several_fields_together_show_has_the_message_of_the_project(
    client: Client,
) -> None:
    for answer in (
        client("GET", "/span?start=2&end=1"),
        client("POST", "/span", json={"start": 2, "end": 1}),
    ):
        assert answer.status == 422
        [(_, field, message)] = answer.faults
        assert (field, message) == ("", "the end is before the start")
    assert client("GET", "/span?start=x&end=1").faults == [("query", "start", "must be an integer")]


def test_a_constraint_that_msgspec_words_itself_is_told(client: Client) -> None:
    [(place, field, message)] = client("GET", "/constrained?n=3").faults
    assert (place, field) == ("query", "n")
    assert "multiple of 2" in message


def test_faults_and_the_text_of_a_client_are_bounded(client: Client) -> None:
    query = "&".join(f"key{number}=1" for number in range(3 * MAX_FAULTS))
    answer = client("GET", f"/constrained?{query}")
    assert len(answer.faults) == MAX_FAULTS
    answer = client("GET", f"/constrained?n=2&{'k' * 5000}=1")
    assert answer.status == 422
    assert len(answer.text) < 2000


def test_the_value_of_a_text_is_not_repeated(client: Client) -> None:
    assert "secret" not in client("GET", "/constrained?n=secret").text


def test_the_answer_is_json_whatever_a_client_sends(client: Client) -> None:
    answer = client("GET", "/constrained?%22%00%C3%A9%0A=1&n=2")
    assert answer.faults == [("query", '"\0é\n', "is not known")]
    assert msgspec.json.decode(answer.text)["status"] == 422
