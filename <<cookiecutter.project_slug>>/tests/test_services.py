"""The services on a real database, without HTTP."""

from << cookiecutter.project_slug >>.engines.postgresql import Pool
from << cookiecutter.project_slug >>.services import records


async def test_a_record_is_kept_until_it_is_deleted(pool: Pool) -> None:
    record = await records.create(pool, "naïve ☃")
    assert record.name == "naïve ☃"
    assert await records.read(pool, record.id) == record
    assert await records.delete(pool, record.id)
    assert await records.read(pool, record.id) is None
    assert not await records.delete(pool, record.id)


async def test_a_list_goes_on_after_an_id(pool: Pool) -> None:
    first, second, third = [await records.create(pool, name) for name in "abc"]
    assert await records.list_after(pool, first.id, 20) == [second, third]
    assert await records.list_after(pool, first.id, 1) == [second]
    assert await records.list_after(pool, third.id, 20) == []
