"""The services on a real database, without HTTP."""

import pytest
from api_hour import InvalidArgument

from << cookiecutter.project_slug >>.engines.postgresql import Pool
from << cookiecutter.project_slug >>.services import records


async def test_a_record_is_kept_until_it_is_deleted(pool: Pool) -> None:
    record = await records.create(pool, "naïve ☃", {"b", "a"})
    assert (record.name, record.tags) == ("naïve ☃", ["a", "b"])
    assert await records.read(pool, record.id) == record
    assert await records.delete(pool, record.id)
    assert await records.read(pool, record.id) is None
    assert not await records.delete(pool, record.id)


async def test_a_record_is_stored_with_its_tags_or_not_at_all(pool: Pool) -> None:
    first = await records.create(pool, "first")
    with pytest.raises(records.NameTaken, match="name first"):
        await records.create(pool, "first", {"new"})
    with pytest.raises(InvalidArgument):
        await records.create(pool, "second", {"NUL \0"})
    assert await records.list_after(pool, 0, 20) == [first]


async def test_a_list_goes_on_after_an_id(pool: Pool) -> None:
    first, second, third = [await records.create(pool, name) for name in "abc"]
    assert await records.list_after(pool, first.id, 20) == [second, third]
    assert await records.list_after(pool, first.id, 1) == [second]
    assert await records.list_after(pool, third.id, 20) == []


async def test_a_list_has_the_records_with_a_tag(pool: Pool) -> None:
    await records.create(pool, "a", {"old"})
    second = await records.create(pool, "b", {"new", "old"})
    assert await records.list_after(pool, 0, 20, "new") == [second]
