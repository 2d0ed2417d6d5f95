"""What the records of the clients and the ledger of the daemon say together about every loss."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from chaos.line import Outcome
from chaos.load import Record
from chaos.project import Project

SHOWN = 12  # lost requests that are described in full
NO_LOSS = {Outcome.ANSWERED, Outcome.RACED}


@dataclass(frozen=True)
class Loss:
    """Say how many requests a fault may cost, and of which classes."""

    limit: float = 0
    classes: Collection[Outcome] = ()
    drops: bool = False  # idle connections may be closed without notice

    def excess(self, records: Collection[Record], drops: Collection[float]) -> str:
        """Return what goes beyond, empty when nothing does."""
        lost = lost_of(records)
        counts = Counter(one.outcome for one in lost)
        if len(lost) > self.limit or set(counts) - set(self.classes):
            return "lost " + ", ".join(f"{count} {kind}" for kind, count in counts.items())
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


def describe(records: Collection[Record], project: Project) -> str:
    """Describe lost requests, one in a line, with how far the daemon got with them."""
    lost, zero = lost_of(records), min((one.began for one in records), default=0.0)
    lines = [
        f"{one.began - zero:8.3f} s +{one.ended - one.began:.3f} {one.ident} {one.kind.name}"
        f" idle {one.idle:.3f} s: {one.outcome}, {project.fate(one.ident)}"
        for one in lost[:SHOWN]
    ]
    return "\n".join([*lines, f"and {len(lost) - SHOWN} more"] if len(lost) > SHOWN else lines)
