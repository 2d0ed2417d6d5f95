"""Decide the next step from the workers that are to those that are wanted; touches no process."""

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple, Protocol

from api_hour.config.generation import Generation


class State(Enum):
    """Say how far a worker is, as the master sees it."""

    BOOTING = 1
    READY = 2
    DRAINING = 3


@dataclass
class Standing:
    """Hold what the master knows of one worker."""

    generation: Generation
    age: int  # a running number: the lower, the older
    state: State = State.BOOTING
    kill_at: float = math.inf  # when patience ends, by time.monotonic()
    killed_for: str = ""
    failure: str = ""  # why it could not boot
    replace: str = ""  # why it asks for a successor
    slots: set[int] = field(default_factory=set)  # first its own, then those it covers


class Member(Protocol):
    """Whatever has a standing: a Worker, or a stand-in of a test."""

    standing: Standing


class Spawn(NamedTuple):
    """Start one worker of this generation, and say why."""

    generation: Generation
    reason: str = "start"


class Dismiss(NamedTuple):
    """Let this worker finish and leave."""

    worker: Member


@dataclass(frozen=True)
class Wanted:
    """Say what the master is after."""

    count: int
    surge: int  # workers allowed beside the count while others are replaced
    current: Generation  # the newest good one
    candidate: Generation | None = None  # opened by HUP, not yet proved by a ready worker
    recycling: bool = True  # a worker's wish for a successor is granted


def next_step(members: Iterable[Member], wanted: Wanted) -> Spawn | Dismiss | None:
    """Return one step towards ``count`` ready workers of the current generation, or None."""
    live = [one for one in members if one.standing.state is not State.DRAINING]
    probes = [one for one in live if one.standing.generation is wanted.candidate]
    tired = _tired(live, wanted)
    fresh = [one for one in live if _of(one, wanted.current) and one is not tired]
    old = [one for one in live if one not in probes and one not in fresh]
    for one in old:
        if one.standing.state is State.BOOTING:
            return Dismiss(one)
    if wanted.candidate and not probes:
        return Spawn(wanted.candidate, "reload")
    if len(fresh) > wanted.count:
        return Dismiss(min(fresh, key=_least_useful))
    if len(fresh) < wanted.count and len(live) - len(probes) < wanted.count + wanted.surge:
        return Spawn(wanted.current, "recycling" if tired else "reload" if old else "start")
    if old and len(_ready(fresh)) + len(old) > wanted.count:
        return Dismiss(min(old, key=_least_useful))
    return None


def free_slot(members: Iterable[Member], generation: Generation, count: int) -> int:
    """Return the slot that a new worker of ``generation`` shall have: one nobody has who stays."""
    held = [
        slot
        for one in members
        if one.standing.state is not State.DRAINING
        and _of(one, generation)
        and not one.standing.replace
        for slot in one.standing.slots
    ]
    return min(range(count), key=lambda slot: (held.count(slot), slot))


def uncovered(members: Iterable[Member], count: int) -> set[int]:
    """Return the slots on which no worker accepts, nor will when it has booted."""
    live = [one for one in members if one.standing.state is not State.DRAINING]
    return set(range(count)).difference(*(one.standing.slots for one in live))


def _of(one: Member, generation: Generation) -> bool:
    return one.standing.generation is generation


def _tired(live: Collection[Member], wanted: Wanted) -> Member | None:
    """Return the one worker that may be replaced now because it asked; one at a time."""
    if not wanted.recycling or wanted.candidate:
        return None
    asking = [one for one in _ready(live) if one.standing.replace and _of(one, wanted.current)]
    return min(asking, key=_least_useful, default=None)


def _ready(members: Iterable[Member]) -> list[Member]:
    return [one for one in members if one.standing.state is State.READY]


def _least_useful(one: Member) -> tuple[int, int]:
    """Order booting before ready, then old before young."""
    return one.standing.state.value, one.standing.age
