"""Choose the next step from the current workers to the desired ones. Pure: touches no process.

The master calls ``next_step`` after every event and takes the step, until there is none. The
workers that are not draining fall into three groups:

* the **probe**, the worker of a candidate generation, of which there is at most one;
* **fresh** workers, of the current generation;
* **outdated** workers, of an older generation, and the one worker of the current generation that
  may be recycled now.

Fresh workers are added until there are enough, at most ``surge`` more than ``count`` at a time,
and an outdated one drains only when a ready fresh one makes up for it. So a start, a reload,
scaling, recycling and a crash are all the same movement; none of them has code of its own.
"""

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, NamedTuple, Protocol, TypeVar

from api_hour.config.generation import Generation


class Phase(Enum):
    """How far a worker is, as the master sees it."""

    BOOTING = 1
    READY = 2
    DRAINING = 3


@dataclass
class WorkerState:
    """What the master knows of one worker."""

    generation: Generation
    age: int  # a running number: the lower, the older
    phase: Phase = Phase.BOOTING
    kill_at: float = math.inf  # deadline of the phase, by time.monotonic()
    killed_for: str = ""  # why the master killed it; empty while it did not
    doing: str = ""  # what it does while it boots
    failure: str = ""  # why it could not boot
    replace_for: str = ""  # why it asks for a replacement; empty while it does not
    told: bool = False  # asks because somebody told it to leave, so it is replaced in any case
    drains_since: float = 0.0  # by time.monotonic()
    hurried: bool = False  # was told to end its drain
    slots: set[int] = field(default_factory=set)  # its own, and those it covers for others


class Member(Protocol):
    """Anything with a state: a Worker, or its stand-in in a test."""

    state: WorkerState


M = TypeVar("M", bound=Member)


class Spawn(NamedTuple):
    """The step that starts one worker of a generation, with its reason."""

    generation: Generation
    reason: str = "start"


class Drain(NamedTuple, Generic[M]):
    """The step that lets a worker finish its work and exit."""

    worker: M


@dataclass(frozen=True)
class Target:
    """What the master wants to reach."""

    count: int
    surge: int  # workers allowed on top of ``count`` while others are replaced
    current: Generation  # the newest good one
    candidate: Generation | None = None  # read at HUP; good once one of its workers is ready
    recycling: bool = True  # whether workers that ask for a replacement get one


def next_step(members: Iterable[M], target: Target) -> Spawn | Drain[M] | None:
    """Return one step towards ``count`` ready workers of the current generation, or None."""
    live = _live(members)
    probes = [worker for worker in live if worker.state.generation is target.candidate]
    recycled = _due_for_recycling(live, target)
    fresh = [worker for worker in live if _is_of(worker, target.current) and worker is not recycled]
    outdated = [worker for worker in live if worker not in probes and worker not in fresh]
    for worker in outdated:
        if worker.state.phase is Phase.BOOTING:  # its code is no longer wanted
            return Drain(worker)
    if target.candidate and not probes:
        return Spawn(target.candidate, "reload")
    if len(fresh) > target.count:
        return Drain(min(fresh, key=_least_useful))
    if len(fresh) < target.count and len(live) - len(probes) < target.count + target.surge:
        return Spawn(target.current, "recycling" if recycled else "reload" if outdated else "start")
    if outdated and len(_ready(fresh)) + len(outdated) > target.count:
        return Drain(min(outdated, key=_least_useful))
    return None


def free_slot(members: Iterable[Member], generation: Generation, count: int) -> int:
    """Return the slot for a new worker of ``generation``: the one that fewest keep."""
    kept = [
        slot
        for worker in _live(members)
        if _is_of(worker, generation) and not worker.state.replace_for
        for slot in worker.state.slots
    ]
    return min(range(count), key=lambda slot: (kept.count(slot), slot))


def uncovered(members: Iterable[Member], count: int) -> set[int]:
    """Return the slots on which no worker accepts, not even one that is still booting."""
    return set(range(count)).difference(*(worker.state.slots for worker in _live(members)))


def _live(members: Iterable[M]) -> list[M]:
    return [worker for worker in members if worker.state.phase is not Phase.DRAINING]


def _ready(members: Iterable[M]) -> list[M]:
    return [worker for worker in members if worker.state.phase is Phase.READY]


def _is_of(worker: Member, generation: Generation) -> bool:
    return worker.state.generation is generation


def _due_for_recycling(live: Collection[M], target: Target) -> M | None:
    """Return the worker that may be replaced now because it asked for it: one at a time."""
    if target.candidate:
        return None
    asking = [
        worker
        for worker in _ready(live)
        if worker.state.replace_for
        and (target.recycling or worker.state.told)
        and _is_of(worker, target.current)
    ]
    return min(asking, key=_least_useful, default=None)


def _least_useful(worker: Member) -> tuple[int, int]:
    """Order booting workers before ready ones, then old ones before young ones."""
    return worker.state.phase.value, worker.state.age
