"""The endpoints over real HTTP<< ", on a real database" if cookiecutter.database != "none" >>."""

<% if cookiecutter.database != "none" %>
import pytest
from api_hour.plugins import embedded
<% endif %>
from api_hour.testing import Client

from << cookiecutter.project_slug >>.container import Container
<% if cookiecutter.database != "none" %>

JSON = "application/json"
BAD_BODIES = {
    "not JSON": (b"{name}", JSON, 400, "JSON"),
    "NaN": (b'{"name": NaN}', JSON, 400, "JSON"),
    "too deep": (b"[" * 100_000, JSON, 400, "deep"),
    "wrong type": (b'{"name": 1}', JSON, 422, "name"),
    "missing field": (b"{}", JSON, 422, "name"),
    "unknown field": (b'{"name": "a", "age": 1}', JSON, 422, "age"),
    "too short": (b'{"name": ""}', JSON, 422, "name"),
    "too long": (b'{"name": "%s"}' % (b"a" * 201), JSON, 422, "name"),
    "NUL": (rb'{"name": "a\u0000"}', JSON, 422, "name"),
    "too large": (b'"%s"' % (b"a" * 300_000), JSON, 413, "262144"),
    "not sent as JSON": (b'{"name": "a"}', "text/plain", 415, JSON),
}
BAD_QUERIES = {"limit=0": "limit", "limit=101": "limit", "after=x": "after", "page=1": "page"}
<% endif %>


async def test_the_index_greets(client: Client) -> None:
    response = await client.get("/")
    assert response.status == 200
    assert response.json() == {"message": "Hello, World!"}


<% if cookiecutter.database != "none" %>
async def test_a_record_lives_from_post_to_delete(client: Client) -> None:
    created = await client.post("/records", json={"name": "first"})
    assert created.status == 201
    address = created.headers["Location"]
    read = await client.get(address)
    assert (read.status, read.json()) == (200, created.json())
    assert read.json()["name"] == "first"
    assert (await client.delete(address)).status == 204
    assert (await client.get(address)).status == 404
    assert (await client.delete(address)).status == 404


async def test_a_list_is_read_page_by_page(client: Client) -> None:
    ids = []
    for name in "abc":
        created = await client.post("/records", json={"name": name})
        ids.append(created.json()["id"])
    page = (await client.get(f"/records?limit=2&after={ids[0] - 1}")).json()
    assert [record["id"] for record in page["records"]] == ids[:2]
    page = (await client.get(f"/records?limit=2&after={page['after']}")).json()
    assert [record["id"] for record in page["records"]] == ids[2:]
    assert page["after"] is None


@pytest.mark.parametrize("case", BAD_BODIES)
async def test_a_bad_body_gets_an_error_that_names_the_fault(client: Client, case: str) -> None:
    body, content_type, status, word = BAD_BODIES[case]
    response = await client.post("/records", data=body, headers={"Content-Type": content_type})
    assert response.headers["Content-Type"].startswith("application/problem+json")
    error = response.json()["error"]
    assert (response.status, error["status"]) == (status, status)
    assert word in str(error)


@pytest.mark.parametrize("query", BAD_QUERIES)
async def test_a_bad_query_gets_an_error_that_names_the_field(client: Client, query: str) -> None:
    response = await client.get(f"/records?{query}")
    assert response.status == 422
    assert BAD_QUERIES[query] in str(response.json()["error"])


@pytest.mark.parametrize("record", ["0", "999999999999999999", "9" * 30, "x", "-1"])
async def test_an_unknown_record_is_not_found(client: Client, record: str) -> None:
    for method in ("GET", "DELETE"):
        response = await client.request(method, f"/records/{record}")
        assert response.status == 404
        assert response.json()["error"]["message"].endswith(f" the id {record}")


<% else %>
async def test_an_unknown_address_is_answered_in_json(client: Client) -> None:
    response = await client.get("/nowhere")
    assert (response.status, response.json()["error"]["status"]) == (404, 404)


<% endif %>
async def test_a_wrong_method_gets_the_allowed_ones(client: Client) -> None:
<% if cookiecutter.database != "none" %>
    response = await client.put("/records")
    assert (response.status, response.headers["Allow"]) == (405, "GET,HEAD,POST")
<% else %>
    response = await client.delete("/")
    assert (response.status, response.headers["Allow"]) == (405, "GET,HEAD")
<% endif %>
    assert response.json()["error"]["status"] == 405


async def test_a_worker_reports_its_health(admin: Client) -> None:
    for path in ("live", "ready", "engines"):
        response = await admin.get(f"/health/{path}")
        assert response.status == 200


async def test_a_draining_worker_is_not_ready(container: Container, admin: Client) -> None:
    container.ready = False
    response = await admin.get("/health/ready")
    assert (response.status, response.json()) == (503, {"ready": False})
<% if cookiecutter.database != "none" %>


async def test_a_database_outage_is_answered_503_and_recovers(
    client: Client, admin: Client, database: embedded.PostgreSQL
) -> None:
    database.stop()
    try:
        response = await client.get("/records")
        assert (response.status, response.headers["Retry-After"]) == (503, "1")
        assert (await admin.get("/health/engines")).status == 503
        assert (await admin.get("/health/ready")).status == 200
        assert (await client.get("/")).status == 200
    finally:
        database.start()
    assert (await client.get("/records")).status == 200
    assert (await admin.get("/health/engines")).status == 200
<% endif %>
