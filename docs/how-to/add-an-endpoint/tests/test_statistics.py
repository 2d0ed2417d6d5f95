"""The figures over real HTTP, on a real database."""

from .conftest import Client


async def test_a_new_record_is_counted(client: Client) -> None:
    before = await (await client.get("/statistics")).json()
    await client.post("/records", json={"name": "first"})
    after = await (await client.get("/statistics")).json()
    assert after["records"] == before["records"] + 1
