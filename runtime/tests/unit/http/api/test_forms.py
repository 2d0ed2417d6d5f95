"""Forms: urlencoded or multipart, read into the same types as a query."""

import datetime
import gzip
from collections.abc import Iterator
from typing import Any, Literal

import pytest
from aiohttp import FormData, web
from msgspec import Struct

from api_hour import API, Form, Query
from runtime.tests.unit.http.api.serving import Answer, Client, served

LIMIT = 2000  # bytes of a body
URLENCODED = {"Content-Type": "application/x-www-form-urlencoded"}
MULTIPART = {"Content-Type": "multipart/form-data; boundary=B"}


class Contact(Struct):
    name: str
    born: datetime.date | None = None
    topics: list[Literal["a", "b"]] = []
    agreed: bool = False


async def struct(contact: Form[Contact], n: Query[int] = 0) -> list[Any]:
    return [contact, n]


async def single(name: Form[str], ages: Form[list[int]] = [], agreed: Form[bool] = False) -> Any:  # noqa: B006
    return [name, ages, agreed]


async def mapping(values: Form[dict[str, int]]) -> dict[str, int]:
    return values


@pytest.fixture(scope="module", params=[True, False], ids=["fast", "not fast"])
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    api = API(web.Application(client_max_size=LIMIT), title="Test", version="1")
    for endpoint in (struct, single, mapping):
        api.post(f"/{endpoint.__name__}", endpoint)
    api.post("/small", single, body_limit=20)
    api.post("/large", single, body_limit=10 * LIMIT)
    with served(api._app, fast=request.param) as client:
        yield client


def multipart(*fields: tuple[str, str]) -> FormData:
    form = FormData(quote_fields=False)
    for name, value in fields:
        form.add_field(name, value, content_type="text/plain; charset=utf-8")
    return form


def send(client: Client, path: str, *fields: tuple[str, str], kind: str) -> Answer:
    form = FormData(list(fields)) if kind == "urlencoded" else multipart(*fields)
    return client("POST", path, data=form)


@pytest.mark.parametrize("kind", ["urlencoded", "multipart"])
def test_a_form_is_read_into_a_struct(client: Client, kind: str) -> None:
    fields = [("name", "é +&"), ("topics", "a"), ("born", "2026-01-31"), ("topics", "b")]
    answer = send(client, "/struct?n=1", *fields, ("agreed", "on"), kind=kind)
    assert answer.json == [
        {"name": "é +&", "born": "2026-01-31", "topics": ["a", "b"], "agreed": True},
        1,
    ]


@pytest.mark.parametrize("kind", ["urlencoded", "multipart"])
def test_a_form_is_read_into_parameters_and_into_a_mapping(client: Client, kind: str) -> None:
    answer = send(client, "/single", ("name", ""), ("ages", "1"), ("ages", "2"), kind=kind)
    assert answer.json == ["", [1, 2], False]
    assert send(client, "/mapping", ("a", "1"), ("b", "2"), kind=kind).json == {"a": 1, "b": 2}


@pytest.mark.parametrize("kind", ["urlencoded", "multipart"])
def test_every_fault_of_a_form_is_named(client: Client, kind: str) -> None:
    fields = [("born", ""), ("topics", "a"), ("topics", "c"), ("agreed", "?"), ("x", "1")]
    answer = send(client, "/struct", *fields, kind=kind)
    assert answer.status == 422
    assert sorted(answer.faults) == [
        ("form", "agreed", "must be true or false, 1 or 0, yes or no, on or off"),
        ("form", "born", "must be a date, such as 2026-01-31"),
        ("form", "name", "is missing"),
        ("form", "topics[1]", "must be one of 'a', 'b'"),
        ("form", "x", "is not known"),
    ]
    answer = send(client, "/mapping", ("a", "x"), ("b", "1"), ("a", "y"), kind=kind)
    assert sorted(answer.faults) == [
        ("form", "a", "may come once, and came 2 times"),
        ("form", "a", "must be an integer"),
    ]


def part(disposition: bytes, value: bytes = b"1", headers: bytes = b"") -> bytes:
    return (
        b"--B\r\nContent-Disposition: form-data"
        + disposition
        + b"\r\n"
        + headers
        + b"\r\n"
        # The end of the part, and of the form.
        + value
        + b"\r\n--B--\r\n"
    )


NAME = b"; name=name"
MALFORMED: dict[str, tuple[dict[str, str], bytes]] = {
    "urlencoded, not UTF-8": (URLENCODED, b"name=\xff"),
    "urlencoded, charset": (
        {"Content-Type": f"{URLENCODED['Content-Type']}; charset=x"},
        b"name=1",
    ),
    "no boundary": ({"Content-Type": "multipart/form-data"}, b"name=1"),
    "no part": (MULTIPART, b"name=1"),
    "truncated": (MULTIPART, part(NAME)[:-6]),
    "truncated headers": (MULTIPART, part(NAME)[:30]),
    "no name": (MULTIPART, part(b"")),
    "name not UTF-8": (MULTIPART, part(b'; name="\xff"')),
    "charset": (MULTIPART, part(NAME, headers=b"Content-Type: text/plain; charset=x\r\n")),
    "not UTF-8": (MULTIPART, part(NAME, b"\xff")),
    "bytes": (MULTIPART, part(NAME, b"\xff", b"Content-Type: image/png\r\n")),
    "surrogate": (MULTIPART, part(NAME, b"\xed\xa0\x80")),
    "transfer": (MULTIPART, part(NAME, headers=b"Content-Transfer-Encoding: x\r\n")),
    "nested": (MULTIPART, part(NAME, headers=b"Content-Type: multipart/mixed; boundary=C\r\n")),
    "header": (MULTIPART, part(NAME, headers=b"no header\r\n")),
    "many headers": (MULTIPART, part(NAME, headers=b"a: b\r\n" * 200)),
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_body_that_is_not_the_form_that_it_says_is_a_400(client: Client, kind: str) -> None:
    headers, body = MALFORMED[kind]
    answer = client("POST", "/single", data=body, headers=headers)
    assert answer.status == 400
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert "form" in answer.json["detail"]


OTHERS = {"application/json": "application/json", "": "none", "multipart/mixed": "multipart/mixed"}


@pytest.mark.parametrize("media", OTHERS)
def test_a_body_that_is_not_a_form_is_a_415(client: Client, media: str) -> None:
    header = f"\r\nContent-Type: {media}" if media else ""
    answer = client.raw(f"POST /single HTTP/1.1{header}".encode(), b"{}")
    assert answer.status == 415
    assert answer.json["detail"] == (
        "Send a form, as multipart/form-data or application/x-www-form-urlencoded, "
        f"not {OTHERS[media]}"
    )


@pytest.mark.parametrize("kind", ["urlencoded", "multipart"])
def test_a_form_is_as_large_as_the_application_or_its_route_allows(
    client: Client, kind: str
) -> None:
    large = ("name", "a" * LIMIT)
    refused = send(client, "/single", large, kind=kind)
    assert (refused.status, refused.json["detail"]) == (
        413,
        f"The body is larger than {LIMIT} bytes",
    )
    assert send(client, "/large", large, kind=kind).status == 200
    assert send(client, "/small", ("name", "a" * 30), kind=kind).status == 413


def test_a_form_has_as_many_fields_as_aiohttp_allows(client: Client) -> None:
    answer = client("POST", "/large", data=b"&".join([b"a=1"] * 1001), headers=URLENCODED)
    assert (answer.status, answer.json["detail"]) == (
        413,
        "Maximum number of form fields 1000 exceeded.",
    )


def test_an_inflated_form_is_refused_as_such(client: Client) -> None:
    body = gzip.compress(b"name=" + b"a" * 1_000_000)
    answer = client("POST", "/large", data=body, headers={**URLENCODED, "Content-Encoding": "gzip"})
    assert answer.status == 413
    assert answer.json["detail"].startswith("The body is ")


def test_a_form_whose_client_leaves_is_neither_answered_nor_logged_as_an_error(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    head = b"POST /single HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded"
    assert client.raw(head, b"name=a", missing=3).status == 0
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
