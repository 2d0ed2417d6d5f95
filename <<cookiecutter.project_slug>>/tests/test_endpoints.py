"""The endpoints over real HTTP<< ", on a real database" if cookiecutter.database != "none" >>."""

<% if cookiecutter.database != "none" %>
from api_hour.plugins import embedded
<% endif %>
from api_hour.testing import Client

from << cookiecutter.project_slug >>.container import Container

PROBLEM = "application/problem+json"


async def test_the_index_greets(client: Client) -> None:
    response = await client.get("/")
    assert response.status == 200
    assert response.json() == {"message": "Hello, World!"}


async def test_a_key_that_the_query_does_not_have_is_refused(client: Client) -> None:
    response = await client.get("/?page=1")
    assert response.status == 422
    assert [fault["field"] for fault in response.json()["errors"]] == ["page"]


async def test_an_unknown_address_is_answered_in_json(client: Client) -> None:
    response = await client.get("/nowhere")
    assert response.headers["Content-Type"].startswith(PROBLEM)
    assert (response.status, response.json()["status"]) == (404, 404)


async def test_a_wrong_method_gets_the_allowed_ones(client: Client) -> None:
    response = await client.delete("/")
    assert (response.status, response.headers["Allow"]) == (405, "GET,HEAD")
    assert response.json()["status"] == 405


async def test_a_worker_reports_its_health(admin: Client) -> None:
    for path in ("live", "ready", "engines"):
        response = await admin.get(f"/health/{path}")
        assert response.status == 200


async def test_a_draining_worker_is_not_ready(container: Container, admin: Client) -> None:
    container.ready = False
    response = await admin.get("/health/ready")
    assert (response.status, response.json()) == (503, {"ready": False})
<% if cookiecutter.database != "none" %>


async def test_a_database_outage_is_visible_and_leaves_the_worker_ready(
    client: Client, admin: Client, database: embedded.PostgreSQL
) -> None:
    database.stop()
    try:
        assert (await admin.get("/health/engines")).status == 503
        assert (await admin.get("/health/ready")).status == 200
        assert (await client.get("/")).status == 200
    finally:
        database.start()
    assert (await admin.get("/health/engines")).status == 200
<% endif %>
