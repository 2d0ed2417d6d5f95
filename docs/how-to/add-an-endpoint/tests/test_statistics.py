"""The figures over real HTTP, on a real database."""

from api_hour.testing import Client


async def test_a_new_record_is_counted(client: Client) -> None:
    assert (await client.get("/statistics")).json()["records"] == 0
    await client.post("/records", json={"name": "first"})
    assert (await client.get("/statistics")).json()["records"] == 1
