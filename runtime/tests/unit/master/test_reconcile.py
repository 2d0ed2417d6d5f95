"""The master's decisions, without any process: whatever dies, the wanted number is reached."""

from dataclasses import dataclass
from random import Random
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from api_hour.config.generation import Generation
from api_hour.master.reconcile import (
    Dismiss,
    Member,
    Spawn,
    Standing,
    State,
    Wanted,
    free_slot,
    next_step,
    uncovered,
)


@dataclass
class Process:
    standing: Standing


@dataclass(eq=False)
class Release:
    """Stand for a generation, of which only the identity matters here."""

    name: str


OLD, NEW = (cast(Generation, Release(name)) for name in ("old", "new"))


class Fleet:
    """Apply steps the way the arbiter does."""

    def __init__(self, count: int = 2, surge: int = 1) -> None:
        self.members: list[Process] = []
        self.count, self.surge = count, surge
        self.current: Generation = OLD
        self.candidate: Generation | None = None
        self.recycling = True
        self._age = 0

    def settle(self) -> list[str]:
        """Take steps until there is none; return their names."""
        taken = []
        while step := next_step(self.members, self.wanted()):
            if isinstance(step, Spawn):
                self._check_room(step.generation)
                self._age += 1
                self.members.append(Process(Standing(step.generation, self._age)))
            elif isinstance(step, Dismiss):
                step.worker.standing.state = State.DRAINING
            taken.append(type(step).__name__)
            assert len(taken) < 100, "the steps do not end"
        return taken

    def _check_room(self, generation: Generation) -> None:
        """Assert that a new worker exceeds neither the surge nor the one probe."""
        live = self.having(State.BOOTING, State.READY)
        probes = [one for one in live if one.standing.generation is self.candidate]
        if generation is self.candidate:
            assert not probes
        else:
            assert len(live) - len(probes) < self.count + self.surge

    def wanted(self) -> Wanted:
        return Wanted(self.count, self.surge, self.current, self.candidate, self.recycling)

    def ready(self, process: Process) -> None:
        if process.standing.state is State.BOOTING:
            process.standing.state = State.READY
            if process.standing.generation is self.candidate:
                self.current, self.candidate = self.candidate, None

    def boot_all(self) -> None:
        """Let every worker become ready, one after the other, until nothing moves."""
        while booting := self.having(State.BOOTING):
            self.ready(booting[0])
            self.settle()

    def having(self, *states: State, of: Generation | None = None) -> list[Process]:
        return [
            one
            for one in self.members
            if one.standing.state in states and of in (None, one.standing.generation)
        ]


def started(count: int = 2, surge: int = 1) -> Fleet:
    fleet = Fleet(count, surge)
    fleet.settle()
    fleet.boot_all()
    return fleet


def test_the_first_start_boots_every_worker_at_once() -> None:
    fleet = Fleet(count=4)
    assert fleet.settle() == ["Spawn"] * 4


def test_a_candidate_is_tried_with_one_worker_while_all_old_ones_stay() -> None:
    fleet = started()
    fleet.candidate = NEW
    assert fleet.settle() == ["Spawn"]
    assert len(fleet.having(State.READY, of=OLD)) == 2


def test_an_old_worker_is_dismissed_only_for_a_ready_new_one() -> None:
    fleet = started()
    fleet.candidate = NEW
    fleet.settle()
    fleet.ready(fleet.having(State.BOOTING)[0])
    assert fleet.settle() == ["Dismiss", "Spawn"]
    assert len(fleet.having(State.READY)) == 2
    fleet.boot_all()
    assert len(fleet.having(State.READY, of=NEW)) == 2
    assert not fleet.having(State.READY, of=OLD)


def test_an_abandoned_candidate_loses_its_booting_worker_and_nothing_else() -> None:
    fleet = started()
    fleet.candidate = NEW
    fleet.settle()
    fleet.candidate = None
    assert fleet.settle() == ["Dismiss"]
    assert len(fleet.having(State.READY, of=OLD)) == 2


def test_a_dead_old_worker_is_replaced_while_the_candidate_still_boots() -> None:
    fleet = started()
    fleet.candidate = NEW
    fleet.settle()
    fleet.members.remove(fleet.having(State.READY)[0])
    assert fleet.settle() == ["Spawn"]
    assert len(fleet.having(State.BOOTING, of=OLD)) == 1


def test_scaling_up_and_down_changes_only_the_count() -> None:
    fleet = started(count=2)
    fleet.count = 4
    fleet.settle()
    fleet.boot_all()
    assert len(fleet.having(State.READY)) == 4
    fleet.count = 1
    assert fleet.settle() == ["Dismiss"] * 3
    assert [one.standing.age for one in fleet.having(State.READY)] == [4]


def test_workers_that_ask_are_replaced_one_at_a_time_replacement_first() -> None:
    fleet = started(count=3)
    for one in fleet.members:
        one.standing.replace = "old age"
    assert fleet.settle() == ["Spawn"]
    assert len(fleet.having(State.READY)) == 3
    fleet.ready(fleet.having(State.BOOTING)[0])
    assert fleet.settle() == ["Dismiss", "Spawn"]
    fleet.boot_all()
    assert not [one for one in fleet.having(State.READY) if one.standing.replace]
    assert len(fleet.having(State.READY)) == 3


def test_nobody_is_recycled_after_a_failed_reload() -> None:
    fleet = started()
    fleet.recycling = False
    fleet.members[0].standing.replace = "old age"
    assert fleet.settle() == []


events = st.lists(
    st.sampled_from(["ready", "die", "hup", "give up", "more", "fewer", "tired", "left"]),
    max_size=40,
)


@given(events=events, count=st.integers(1, 4), surge=st.integers(1, 3), picks=st.randoms())
def test_after_any_history_the_wanted_workers_stand(
    events: list[str], count: int, surge: int, picks: Random
) -> None:
    fleet = started(count, surge)
    for event in events:
        before = len(fleet.having(State.READY))
        happen(fleet, event, picks)
        died = event in ("die", "fewer")
        fleet.settle()
        assert died or len(fleet.having(State.READY)) >= min(before, fleet.count)
    fleet.boot_all()
    ready: list[Member] = list(fleet.having(State.READY))
    assert len(ready) == fleet.count
    assert all(one.standing.generation is fleet.current for one in ready)


def happen(fleet: Fleet, event: str, picks: Random) -> None:
    """Let one thing happen that no step of the master's own brings about."""
    state = {"ready": State.BOOTING, "left": State.DRAINING}.get(event, State.READY)
    one = picks.choice(fleet.having(state) or [None])
    if event == "ready" and one:
        fleet.ready(one)
    elif event in ("die", "left") and one:
        fleet.members.remove(one)
    elif event == "tired" and one:
        one.standing.replace = "old age"
    elif event == "hup":
        fleet.candidate = cast(Generation, Release("another"))
    elif event == "give up":
        fleet.candidate = None
    elif event in ("more", "fewer"):
        fleet.count = max(1, fleet.count + (1 if event == "more" else -1))


def slots(fleet: Fleet) -> list[int]:
    """Give every worker without one a slot, as the master does; return those of the ready ones."""
    for one in fleet.members:
        if not one.standing.slots:
            members = [other for other in fleet.members if other.standing.slots]
            one.standing.slots.add(free_slot(members, one.standing.generation, fleet.count))
    return sorted(slot for one in fleet.having(State.READY) for slot in one.standing.slots)


def test_every_worker_has_a_slot_of_its_own_also_after_a_reload_and_recycling() -> None:
    fleet = started(count=3)
    assert slots(fleet) == [0, 1, 2]
    fleet.candidate = NEW
    fleet.settle()
    while booting := fleet.having(State.BOOTING):
        slots(fleet)
        fleet.ready(booting[0])
        fleet.settle()
    assert slots(fleet) == [0, 1, 2]
    fleet.having(State.READY)[1].standing.replace = "old age"
    fleet.settle()
    slots(fleet)
    fleet.boot_all()
    assert slots(fleet) == [0, 1, 2]


def test_a_slot_is_covered_until_somebody_else_has_it() -> None:
    fleet = started(count=3)
    slots(fleet)
    gone = fleet.having(State.READY)[1]
    fleet.members.remove(gone)
    assert uncovered(fleet.members, 3) == gone.standing.slots
    fleet.having(State.READY)[0].standing.slots |= gone.standing.slots
    assert uncovered(fleet.members, 3) == set()
