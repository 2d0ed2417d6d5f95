"""What the clients' records and the daemon's ledger together say about every loss."""

import math
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from testkit.ledger import LedgerProject
from testkit.load import Outcome, Record

SHOWN = 12  # lost requests that are described in full
NO_LOSS = {Outcome.ANSWERED, Outcome.RACED}


@dataclass(frozen=True)
class Allowance:
    """How many requests a fault may cost: by outcome, and in total."""

    limits: Mapping[Outcome, float] = field(default_factory=dict)
    total: float = math.inf
    drops: bool = False  # whether idle connections may be closed without notice
    kept: bool = True  # whether requests on connections opened earlier may be lost

    def excess(self, records: Collection[Record], drops: Collection[float]) -> str:
        """Describe what was lost beyond the allowance; empty if nothing was."""
        counts = Counter(record.outcome for record in lost_of(records))
        within = all(count <= self.limits.get(outcome, 0) for outcome, count in counts.items())
        if not within or counts.total() > self.total:
            return "lost " + ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
        if not self.kept and any(record.idle for record in lost_of(records)):
            return "lost requests on connections that were open before"
        if drops and not self.drops:
            return f"{len(drops)} idle connections closed without notice"
        return ""


def lost_of(records: Collection[Record]) -> list[Record]:
    """Return the requests that were not answered."""
    return [record for record in records if record.outcome not in NO_LOSS]


def percentile(records: Collection[Record], share: float) -> float:
    """Return the latency in seconds that ``share`` of the answered requests did not exceed."""
    latencies = sorted(record.latency for record in records if record.outcome is Outcome.ANSWERED)
    return latencies[min(len(latencies) - 1, int(len(latencies) * share))] if latencies else 0.0


def describe(records: Collection[Record], project: LedgerProject) -> str:
    """Describe the lost requests, rare outcomes first, and how far the daemon got with each."""
    counts = Counter(record.outcome for record in lost_of(records))
    lost = sorted(lost_of(records), key=lambda record: counts[record.outcome])
    start = min((record.began for record in records), default=0.0)
    lines = [
        f"{record.began - start:8.3f} s +{record.ended - record.began:.3f} {record.ident}"
        f" {record.kind.name} idle {record.idle:.3f} s: {record.outcome},"
        f" {project.fate(record.ident)}"
        for record in lost[:SHOWN]
    ]
    return "\n".join([*lines, f"and {len(lost) - SHOWN} more"] if len(lost) > SHOWN else lines)
