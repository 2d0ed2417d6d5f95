"""Clients that post records for as long as a test wants, and account for every request."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from testkit.http import Response
from testkit.load import Kind, Load, Outcome, Profile, Record


@dataclass(frozen=True, slots=True)
class NewRecord(Kind):
    """A request that creates the record named ``ident``."""

    def parts(self, ident: str) -> tuple[bytes, ...]:
        """Return the request in one part."""
        body = json.dumps({"name": ident}).encode()
        head = "POST /records HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
        return (f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body,)

    def is_answered_by(self, response: Response, ident: str) -> bool:
        """Tell whether the record was created."""
        return response.status == 201 and json.loads(response.body)["name"] == ident


PROFILE = Profile(
    keepalive=4,
    fresh=2,
    rate=100.0,
    timeout=30.0,  # seconds; on two busy cores 2 were measured
    kinds=(NewRecord("record"),),
)


@dataclass
class Account:
    """What became of the requests so far."""

    load: Load

    @property
    def created(self) -> list[str]:
        """Return the names of the records that were created."""
        return [record.ident for record in self._answered()]

    @property
    def lost(self) -> list[Record]:
        """Return the requests that were not answered."""
        return [record for record in self.load.records if record.outcome is not Outcome.ANSWERED]

    @property
    def latencies(self) -> list[float]:
        """Return the seconds that each answered request took, from the shortest to the longest."""
        return sorted(record.latency for record in self._answered())

    def _answered(self) -> list[Record]:
        return [record for record in self.load.records if record.outcome is Outcome.ANSWERED]


@contextmanager
def posting_records(port: int) -> Iterator[Account]:
    """Run the clients until the end of the block."""
    load = Load("record", port, PROFILE, window=math.inf)
    load.start()
    try:
        yield Account(load)
    finally:
        load.stop()
