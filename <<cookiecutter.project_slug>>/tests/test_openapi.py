"""The document of the API, which clients may rely on."""

import json
from pathlib import Path

import api_hour
from api_hour.testing import Client

from << cookiecutter.project_slug >>.container import Container

KEPT = Path(__file__).parent.parent / "openapi.json"


async def test_the_kept_document_is_that_of_the_code(container: Container) -> None:
    server = container.servers()["http"]
    assert isinstance(server, api_hour.HTTPServer)
    document = server.document()
    assert document
    assert json.loads(KEPT.read_text()) == json.loads(document), "run make openapi"


async def test_the_document_is_served_only_if_docs_is_set(client: Client) -> None:
    assert (await client.get("/openapi.json")).status == 404
    assert (await client.get("/docs")).status == 404
