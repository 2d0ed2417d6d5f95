"""The document of an API: valid, complete, and the same for the same code."""

import datetime
import decimal
import enum
import json
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any, Literal

import msgspec
import pytest
from aiohttp import web
from msgspec import Meta, Struct
from openapi_spec_validator import OpenAPIV31SpecValidator

from api_hour.http.api import document
from api_hour.http.api.answers import Reply
from api_hour.http.api.api import API
from api_hour.http.api.events import Event
from api_hour.http.api.operation import BODY
from api_hour.http.api.parameters import Body, Cookie, Form, Header, Place, Query
from api_hour.http.api.uploads import Upload


class Status(enum.Enum):
    OPEN = "open"
    DONE = "done"


class NewRecord(Struct, forbid_unknown_fields=True):
    """What a client says of a record."""

    title: Annotated[str, Meta(min_length=1, max_length=80, examples=["The house"])]
    price: decimal.Decimal
    status: Status = Status.OPEN
    due: datetime.date | None = None


class Record(Struct):
    id: int
    title: str
    created: datetime.datetime
    status: Status = Status.OPEN


class Lines(Struct):
    """Lines that are read and written; a Decimal inside makes the two forms differ."""

    records: list["Priced"]


class Priced(Struct):
    price: decimal.Decimal
    parent: Lines | None = None


class Page(Struct):
    limit: Annotated[int, Meta(ge=1, le=100, description="How many.")] = 20
    status: list[Status] = []
    after: str | None = None
    price: decimal.Decimal | None = None


class Key:
    name = "key"
    scheme: Mapping[str, Any] = {"type": "apiKey", "in": "header", "name": "X-API-Key"}

    async def check(self, request: web.Request) -> None:
        """Let everybody in."""


async def list_page(page: Query[Page], x_trace: Header[str] = "") -> list[Record]:
    """List the records.

    The newest
    come first.
    """
    raise NotImplementedError


async def create(new: Body[NewRecord]) -> Reply[Record]:
    raise NotImplementedError


async def read(id: int, session: Cookie[uuid.UUID | None] = None) -> Record:
    raise NotImplementedError


async def delete(id: Annotated[str, Meta(description="Its name.")]) -> None:
    raise NotImplementedError


async def echo(lines: Body[Lines | None] = None) -> Lines:
    raise NotImplementedError


async def tags(tag: Header[list[int]], tail: str) -> dict[str, Any]:
    raise NotImplementedError


async def sign_in(name: Form[str], remember: Form[bool] = False) -> web.Response:
    raise NotImplementedError


async def upload(file: Upload, more: list[Upload], kind: Form[Literal["a", "b"]] = "a") -> None:
    raise NotImplementedError


async def whole(request: web.Request) -> web.StreamResponse:
    raise NotImplementedError


async def listen(left: Query[dict[str, int]]) -> AsyncIterator[Event[Record]]:
    raise NotImplementedError
    yield


def api() -> API:
    api = API(web.Application(), title="Records", version="1.2", servers=["https://api.example"])
    api.get("/records", list_page, tags=["records"], errors={503: "The database is down."})
    api.post("/records", create, status=201, tags=["records"], security=Key(), errors=[409])
    api.get(r"/records/{id:[0-9]{1,9}}", read, errors=[404])
    api.delete("/named/{id:a|b}", delete, deprecated=True, summary="Remove it")
    api.put("/echo", echo)
    api.get("/tags/{tail:.*}", tags, errors=[404])
    api.post("/sign-in", sign_in)
    api.post("/files", upload)
    api.get("/whole/{any}", whole)
    api.get("/events", listen)
    return api


def made(api: API) -> dict[str, Any]:
    built = document.build(api.title, api.version, api.description, api.servers, api.operations)
    found: dict[str, Any] = json.loads(msgspec.json.encode(built))
    return found


@pytest.fixture(scope="module")
def whole_document() -> dict[str, Any]:
    return made(api())


def of(document: dict[str, Any], method: str, path: str) -> dict[str, Any]:
    found: dict[str, Any] = document["paths"][path][method]
    return found


def test_the_document_is_valid(whole_document: dict[str, Any]) -> None:
    errors = [error.message for error in OpenAPIV31SpecValidator(whole_document).iter_errors()]
    assert errors == []


def test_an_api_without_an_endpoint_has_a_valid_document() -> None:
    empty = made(API(web.Application(), title="Nothing", version="1"))
    assert list(OpenAPIV31SpecValidator(empty).iter_errors()) == []
    assert empty["paths"] == {}
    assert list(empty["components"]["schemas"]) == ["Problem"]


def test_the_same_code_gives_the_same_bytes(whole_document: dict[str, Any]) -> None:
    assert json.dumps(made(api())) == json.dumps(whole_document)
    assert [*whole_document] == ["openapi", "info", "servers", "tags", "paths", "components"]


def test_a_docstring_is_the_summary_and_the_description(whole_document: dict[str, Any]) -> None:
    operation = of(whole_document, "get", "/records")
    assert operation["summary"] == "List the records."
    assert operation["description"] == "The newest\ncome first."
    assert operation["tags"] == ["records"]
    assert whole_document["tags"] == [{"name": "records"}]
    removed = of(whole_document, "delete", "/named/{id}")
    assert (removed["summary"], removed["deprecated"]) == ("Remove it", True)


def test_each_field_of_a_query_is_a_parameter(whole_document: dict[str, Any]) -> None:
    limit, status, after, price, trace = of(whole_document, "get", "/records")["parameters"]
    assert limit == {
        "name": "limit",
        "in": "query",
        "description": "How many.",
        "schema": {"type": "integer", "minimum": 1, "maximum": 100, "default": 20},
    }
    assert status["schema"]["items"] == {"$ref": "#/components/schemas/Status"}
    assert (status["style"], status["explode"]) == ("form", True)
    assert after == {"name": "after", "in": "query", "schema": {"type": "string"}}
    assert price["schema"]["type"] == "string"
    assert trace == {"name": "x-trace", "in": "header", "schema": {"type": "string", "default": ""}}


def test_a_list_in_a_header_is_separated_by_commas(whole_document: dict[str, Any]) -> None:
    _, tag = of(whole_document, "get", "/tags/{tail}")["parameters"]
    assert tag == {
        "name": "tag",
        "in": "header",
        "required": True,
        "style": "simple",
        "explode": False,
        "schema": {"type": "array", "items": {"type": "integer"}},
    }


def test_a_query_that_takes_every_key_is_an_object(whole_document: dict[str, Any]) -> None:
    [left] = of(whole_document, "get", "/events")["parameters"]
    assert left["schema"] == {"type": "object", "additionalProperties": {"type": "integer"}}


def test_a_path_has_its_patterns(whole_document: dict[str, Any]) -> None:
    record, session = of(whole_document, "get", "/records/{id}")["parameters"]
    assert record == {"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}}
    assert session["schema"] == {"type": "string", "format": "uuid"}
    [name] = of(whole_document, "delete", "/named/{id}")["parameters"]
    assert name["schema"] == {"type": "string", "pattern": "^(a|b)$"}
    assert name["description"] == "Its name."
    tail, _ = of(whole_document, "get", "/tags/{tail}")["parameters"]
    assert tail["schema"] == {"type": "string", "pattern": "^.*$"}
    [untyped] = of(whole_document, "get", "/whole/{any}")["parameters"]
    assert untyped["schema"] == {"type": "string"}


def test_bodies_and_answers_have_their_types(whole_document: dict[str, Any]) -> None:
    operation = of(whole_document, "post", "/records")
    assert operation["requestBody"] == {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/NewRecord"}}},
    }
    assert operation["responses"]["201"] == {
        "description": "Created",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Record"}}},
    }
    assert of(whole_document, "delete", "/named/{id}")["responses"]["204"] == {
        "description": "No Content"
    }
    assert "required" not in of(whole_document, "put", "/echo")["requestBody"]
    new = whole_document["components"]["schemas"]["NewRecord"]
    assert new["required"] == ["title", "price"]
    assert new["additionalProperties"] is False
    assert new["description"] == "What a client says of a record."
    assert new["properties"]["title"]["examples"] == ["The house"]
    assert new["properties"]["status"]["default"] == "open"


def test_what_is_read_and_written_in_two_forms_has_two_components(
    whole_document: dict[str, Any],
) -> None:
    schemas = whole_document["components"]["schemas"]
    assert list(schemas) == [
        *("Lines", "LinesInput", "NewRecord", "Priced", "PricedInput", "Record", "Status"),
        "Problem",
    ]
    assert schemas["PricedInput"]["properties"]["price"]["type"] == ["number", "string"]
    assert schemas["Priced"]["properties"]["price"]["type"] == "string"
    assert schemas["Priced"]["required"] == ["price", "parent"]
    assert schemas["LinesInput"]["properties"]["records"]["items"] == {
        "$ref": "#/components/schemas/PricedInput"
    }
    assert schemas["Record"]["required"] == ["id", "title", "created", "status"]


def test_forms_have_files(whole_document: dict[str, Any]) -> None:
    content = of(whole_document, "post", "/sign-in")["requestBody"]["content"]
    assert list(content) == ["application/x-www-form-urlencoded", "multipart/form-data"]
    assert content["multipart/form-data"]["schema"] == {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "remember": {"type": "boolean", "default": False},
        },
        "required": ["name"],
        "additionalProperties": False,
    }
    content = of(whole_document, "post", "/files")["requestBody"]["content"]
    assert list(content) == ["multipart/form-data"]
    fields = content["multipart/form-data"]["schema"]["properties"]
    assert fields["file"]["format"] == "binary"
    assert fields["more"] == {"type": "array", "items": fields["file"]}


def test_every_error_is_there(whole_document: dict[str, Any]) -> None:
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    statuses = {}
    for path, methods in whole_document["paths"].items():
        for method, operation in methods.items():
            errors = {s: r for s, r in operation["responses"].items() if int(s) >= 400}
            assert all(error["content"] == problem for error in errors.values())
            assert all(error["description"] for error in errors.values())
            statuses[f"{method} {path}"] = [int(status) for status in errors]
    assert statuses == {
        "get /records": [422, 503],
        "post /records": [400, 401, 403, 409, 413, 415, 422],
        "get /records/{id}": [404, 422],
        "delete /named/{id}": [404, 422],
        "put /echo": [400, 413, 415, 422],
        "get /tags/{tail}": [404, 422],
        "post /sign-in": [400, 413, 415, 422],
        "post /files": [400, 413, 415, 422],
        "get /whole/{any}": [],
        "get /events": [422],
    }
    refused = of(whole_document, "get", "/records")["responses"]
    assert refused["503"]["description"] == "The database is down."


def test_security_is_enforced_and_documented(whole_document: dict[str, Any]) -> None:
    assert whole_document["components"]["securitySchemes"] == {"key": Key.scheme}
    assert of(whole_document, "post", "/records")["security"] == [{"key": []}]
    assert "security" not in of(whole_document, "get", "/records")


def test_a_stream_says_what_its_events_hold(whole_document: dict[str, Any]) -> None:
    content = of(whole_document, "get", "/events")["responses"]["200"]["content"]
    schema = content["text/event-stream"]["schema"]
    assert schema["properties"]["data"]["contentSchema"] == {"$ref": "#/components/schemas/Record"}


def test_operations_of_one_name_are_told_apart_and_the_first_keeps_it() -> None:
    async def read(id: int) -> int:
        raise NotImplementedError

    api = API(web.Application(), title="Two", version="1")
    for path in ("/a/{id}", "/b/{id}"):
        api.get(path, read)
    api.put("/b/{id}", read)
    ids = [
        operation["operationId"]
        for methods in made(api)["paths"].values()
        for operation in methods.values()
    ]
    assert ids == ["read", "read_b_id", "read_b_id_put"]


def test_classes_of_one_name_are_components_of_their_modules() -> None:
    async def change(new: Body[NewRecord], id: int) -> None:
        raise NotImplementedError

    async def other(new: Body[Any]) -> None:
        raise NotImplementedError

    double: Any = msgspec.defstruct("NewRecord", [("x", int)], module="there")
    third: Any = msgspec.defstruct("Problem", [("x", int)], module="there")
    other.__annotations__["new"] = Annotated[double, Place(BODY)]
    api = API(web.Application(), title="Two", version="1")
    api.put("/a/{id}", change)
    api.put("/b", other)
    other.__annotations__["new"] = Annotated[third, Place(BODY)]
    api.put("/c", other)
    built = made(api)
    assert {"there.NewRecord", f"{__name__}.NewRecord", "there.Problem", "Problem"} < {
        *built["components"]["schemas"],
        "Status",
    }
    assert list(OpenAPIV31SpecValidator(built).iter_errors()) == []
