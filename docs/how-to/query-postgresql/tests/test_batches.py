"""Batches on a real database: a conflict leaves no part of one behind."""

import pytest

from hello.engines.postgresql import Pool
from hello.services import batches
from hello.services.records import NameTaken


async def test_a_batch_is_stored_whole_or_not_at_all(pool: Pool) -> None:
    assert len(await batches.create(pool, ["one", "two"])) == 2
    with pytest.raises(NameTaken):
        await batches.create(pool, ["three", "two"])
    assert await pool.fetchval("SELECT count(*) FROM records WHERE name = 'three'") == 0
