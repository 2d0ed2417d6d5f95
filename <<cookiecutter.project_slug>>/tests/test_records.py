"""The endpoints of records over real HTTP, on a real database."""

import pytest
from api_hour import testing
from api_hour.plugins import embedded
from api_hour.testing import Client

from << cookiecutter.project_slug >> import routes
from << cookiecutter.project_slug >>.container import Container
from << cookiecutter.project_slug >>.settings import HTTP

JSON = "application/json"
# The body, its type, the status of the answer, and the fields at fault.
BAD_BODIES = {
    "not JSON": (b"{name}", JSON, 400, []),
    "NaN": (b'{"name": NaN}', JSON, 400, []),
    "too deep": (b"[" * 100_000, JSON, 400, []),
    "wrong type": (b'{"name": 1}', JSON, 422, ["name"]),
    "missing field": (b"{}", JSON, 422, ["name"]),
    "unknown field": (b'{"name": "a", "age": 1}', JSON, 422, ["age"]),
    "two faults": (b'{"name": "", "tags": [""]}', JSON, 422, ["name", "tags[0]"]),
    "too long": (b'{"name": "%s"}' % (b"a" * 201), JSON, 422, ["name"]),
    "NUL": (rb'{"name": "a\u0000"}', JSON, 422, ["name"]),
    "too large": (b'"%s"' % (b"a" * 300_000), JSON, 413, []),
    "not sent as JSON": (b'{"name": "a"}', "text/plain", 415, []),
}
BAD_QUERIES = ["limit=0", "limit=101", "limit=1&limit=2", "after=x", "tag=", "page=1"]


async def test_a_record_lives_from_post_to_delete(client: Client) -> None:
    created = await client.post("/records", json={"name": "first", "tags": ["new", "big"]})
    assert created.status == 201
    address = created.headers["Location"]
    read = await client.get(address)
    assert (read.status, read.json()) == (200, created.json())
    record = read.json()
    assert (record["name"], record["tags"]) == ("first", ["big", "new"])
    assert (await client.delete(address)).status == 204
    assert (await client.get(address)).status == 404
    assert (await client.delete(address)).status == 404


async def test_a_name_that_is_taken_is_a_conflict(client: Client) -> None:
    assert (await client.post("/records", json={"name": "first"})).status == 201
    response = await client.post("/records", json={"name": "first", "tags": ["new"]})
    assert response.status == 409
    assert response.json()["detail"] == "There is a record with the name first"
    assert (await client.get("/records?tag=new")).json()["records"] == []


async def test_a_list_is_read_page_by_page(client: Client) -> None:
    for name in "abcd":
        tags = [] if name == "b" else ["new"]
        await client.post("/records", json={"name": name, "tags": tags})
    page = (await client.get("/records?limit=2&tag=new")).json()
    assert [record["name"] for record in page["records"]] == ["a", "c"]
    page = (await client.get(f"/records?limit=2&tag=new&after={page['after']}")).json()
    assert [record["name"] for record in page["records"]] == ["d"]
    assert page["after"] is None


@pytest.mark.parametrize("case", BAD_BODIES)
async def test_a_bad_body_gets_an_error_that_names_the_fields(client: Client, case: str) -> None:
    body, content_type, status, fields = BAD_BODIES[case]
    response = await client.post("/records", data=body, headers={"Content-Type": content_type})
    assert response.headers["Content-Type"].startswith("application/problem+json")
    problem = response.json()
    assert (response.status, problem["status"]) == (status, status)
    assert [fault["field"] for fault in problem.get("errors", [])] == fields


@pytest.mark.parametrize("query", BAD_QUERIES)
async def test_a_bad_query_gets_an_error_that_names_the_field(client: Client, query: str) -> None:
    response = await client.get(f"/records?{query}")
    assert response.status == 422
    (fault,) = response.json()["errors"]
    assert (fault["in"], fault["field"]) == ("query", query.partition("=")[0])


@pytest.mark.parametrize("record", ["0", "9223372036854775807", "9" * 30, "x", "-1"])
async def test_an_unknown_record_is_not_found(client: Client, record: str) -> None:
    for method in ("GET", "DELETE"):
        response = await client.request(method, f"/records/{record}")
        assert response.status == 404
        assert response.json()["status"] == 404


async def test_with_a_key_only_those_who_have_it_write(container: Container) -> None:
    app = routes.http(HTTP(api_key="secret"), container.opened)
    async with testing.client(app) as client:
        for headers in ({}, {"X-API-Key": "guess"}):
            response = await client.post("/records", json={"name": "first"}, headers=headers)
            assert (response.status, response.headers["WWW-Authenticate"]) == (401, "APIKey")
            assert (await client.delete("/records/1", headers=headers)).status == 401
        assert (await client.get("/records")).json()["records"] == []
        headers = {"X-API-Key": "secret"}
        response = await client.post("/records", json={"name": "first"}, headers=headers)
        assert response.status == 201
        assert (await client.delete(response.headers["Location"], headers=headers)).status == 204


async def test_a_database_outage_is_answered_503_and_recovers(
    client: Client, database: embedded.PostgreSQL
) -> None:
    database.stop()
    try:
        response = await client.get("/records")
        assert (response.status, response.headers["Retry-After"]) == (503, "1")
    finally:
        database.start()
    assert (await client.get("/records")).status == 200
