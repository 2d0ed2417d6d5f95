"""What the records of the clients and the ledger of the daemon say together about every loss."""

import math
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from testkit.ledger import LedgerProject
from testkit.load import Outcome, Record

SHOWN = 12  # lost requests that are described in full
NO_LOSS = {Outcome.ANSWERED, Outcome.RACED}


@dataclass(frozen=True)
class Loss:
    """Say how many requests of which class a fault may cost, and in all."""

    limits: Mapping[Outcome, float] = field(default_factory=dict)
    total: float = math.inf
    drops: bool = False  # idle connections may be closed without notice
    kept: bool = True  # requests on a connection that was there before may be among them

    def excess(self, records: Collection[Record], drops: Collection[float]) -> str:
        """Return what was lost when it is more than may be, else an empty text."""
        counts = Counter(one.outcome for one in lost_of(records))
        within = all(count <= self.limits.get(kind, 0) for kind, count in counts.items())
        if not within or counts.total() > self.total:
            return "lost " + ", ".join(f"{count} {kind}" for kind, count in counts.items())
        if not self.kept and any(one.idle for one in lost_of(records)):
            return "lost requests on connections that were open before"
        if drops and not self.drops:
            return f"{len(drops)} idle connections closed without notice"
        return ""


def lost_of(records: Collection[Record]) -> list[Record]:
    """Return the requests that were not answered."""
    return [one for one in records if one.outcome not in NO_LOSS]


def percentile(records: Collection[Record], share: float) -> float:
    """Return the latency in seconds below which ``share`` of the answered requests stayed."""
    times = sorted(one.latency for one in records if one.outcome is Outcome.ANSWERED)
    return times[min(len(times) - 1, int(len(times) * share))] if times else 0.0


def describe(records: Collection[Record], project: LedgerProject) -> str:
    """Describe lost requests, the rarest classes first, with how far the daemon got with them."""
    counts = Counter(one.outcome for one in lost_of(records))
    lost = sorted(lost_of(records), key=lambda one: counts[one.outcome])
    zero = min((one.began for one in records), default=0.0)
    lines = [
        f"{one.began - zero:8.3f} s +{one.ended - one.began:.3f} {one.ident} {one.kind.name}"
        f" idle {one.idle:.3f} s: {one.outcome}, {project.fate(one.ident)}"
        for one in lost[:SHOWN]
    ]
    return "\n".join([*lines, f"and {len(lost) - SHOWN} more"] if len(lost) > SHOWN else lines)
