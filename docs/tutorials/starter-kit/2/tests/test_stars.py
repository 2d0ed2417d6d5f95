"""The stars of a record, over real HTTP, on a real database."""

from api_hour.testing import Client


async def test_each_post_gives_a_record_one_star(client: Client) -> None:
    created = await client.post("/records", json={"name": "first"})
    address = created.headers["Location"]
    for count in (1, 2):
        response = await client.post(f"{address}/stars")
        assert (response.status, response.json()) == (200, {"stars": count})


async def test_a_record_that_is_not_there_gets_no_star(client: Client) -> None:
    assert (await client.post("/records/999999999999999999/stars")).status == 404
