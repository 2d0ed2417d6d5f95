"""The URL of the figures."""

import msgspec

from ..engines.postgresql import Pool
from ..services import statistics


class Statistics(msgspec.Struct, frozen=True):
    """How much is kept."""

    records: int


async def show(pool: Pool) -> Statistics:
    """Show how many records there are."""
    return Statistics(await statistics.count_records(pool))
