"""The master's decisions, without any process: whatever dies, the desired number is reached."""

from dataclasses import dataclass
from random import Random
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from api_hour.config.generation import Generation
from api_hour.master.reconcile import (
    Drain,
    Member,
    Phase,
    Spawn,
    Target,
    WorkerState,
    free_slot,
    next_step,
    uncovered,
)


@dataclass
class Process:
    state: WorkerState


@dataclass(eq=False)
class Release:
    """A stand-in for a generation, of which only the identity matters here."""

    name: str


OLD, NEW = (cast(Generation, Release(name)) for name in ("old", "new"))


class Master:
    """A master without processes: it takes steps the way the arbiter does."""

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
        while step := next_step(self.members, self.target()):
            if isinstance(step, Spawn):
                self._check_room(step.generation)
                self._age += 1
                self.members.append(Process(WorkerState(step.generation, self._age)))
            elif isinstance(step, Drain):
                step.worker.state.phase = Phase.DRAINING
            taken.append(type(step).__name__)
            assert len(taken) < 100, "the steps do not end"
        return taken

    def _check_room(self, generation: Generation) -> None:
        """Assert that a new worker exceeds neither the surge nor the one probe."""
        live = self.having(Phase.BOOTING, Phase.READY)
        probes = [worker for worker in live if worker.state.generation is self.candidate]
        if generation is self.candidate:
            assert not probes
        else:
            assert len(live) - len(probes) < self.count + self.surge

    def target(self) -> Target:
        return Target(self.count, self.surge, self.current, self.candidate, self.recycling)

    def ready(self, process: Process) -> None:
        if process.state.phase is Phase.BOOTING:
            process.state.phase = Phase.READY
            if process.state.generation is self.candidate:
                self.current, self.candidate = self.candidate, None

    def boot_all(self) -> None:
        """Let every worker become ready, one after the other, until nothing moves."""
        while booting := self.having(Phase.BOOTING):
            self.ready(booting[0])
            self.settle()

    def having(self, *phases: Phase, of: Generation | None = None) -> list[Process]:
        return [
            worker
            for worker in self.members
            if worker.state.phase in phases and of in (None, worker.state.generation)
        ]


def started(count: int = 2, surge: int = 1) -> Master:
    master = Master(count, surge)
    master.settle()
    master.boot_all()
    return master


def test_the_first_start_boots_every_worker_at_once() -> None:
    master = Master(count=4)
    assert master.settle() == ["Spawn"] * 4


def test_a_candidate_is_tried_with_one_worker_while_all_old_ones_stay() -> None:
    master = started()
    master.candidate = NEW
    assert master.settle() == ["Spawn"]
    assert len(master.having(Phase.READY, of=OLD)) == 2


def test_an_old_worker_is_drained_only_for_a_ready_new_one() -> None:
    master = started()
    master.candidate = NEW
    master.settle()
    master.ready(master.having(Phase.BOOTING)[0])
    assert master.settle() == ["Drain", "Spawn"]
    assert len(master.having(Phase.READY)) == 2
    master.boot_all()
    assert len(master.having(Phase.READY, of=NEW)) == 2
    assert not master.having(Phase.READY, of=OLD)


def test_an_abandoned_candidate_loses_its_booting_worker_and_nothing_else() -> None:
    master = started()
    master.candidate = NEW
    master.settle()
    master.candidate = None
    assert master.settle() == ["Drain"]
    assert len(master.having(Phase.READY, of=OLD)) == 2


def test_a_dead_old_worker_is_replaced_while_the_candidate_still_boots() -> None:
    master = started()
    master.candidate = NEW
    master.settle()
    master.members.remove(master.having(Phase.READY)[0])
    assert master.settle() == ["Spawn"]
    assert len(master.having(Phase.BOOTING, of=OLD)) == 1


def test_scaling_up_and_down_changes_only_the_count() -> None:
    master = started(count=2)
    master.count = 4
    master.settle()
    master.boot_all()
    assert len(master.having(Phase.READY)) == 4
    master.count = 1
    assert master.settle() == ["Drain"] * 3
    assert [worker.state.age for worker in master.having(Phase.READY)] == [4]


def test_workers_that_ask_are_replaced_one_at_a_time_replacement_first() -> None:
    master = started(count=3)
    for worker in master.members:
        worker.state.replace_for = "old age"
    assert master.settle() == ["Spawn"]
    assert len(master.having(Phase.READY)) == 3
    master.ready(master.having(Phase.BOOTING)[0])
    assert master.settle() == ["Drain", "Spawn"]
    master.boot_all()
    assert not [worker for worker in master.having(Phase.READY) if worker.state.replace_for]
    assert len(master.having(Phase.READY)) == 3


def test_nobody_is_recycled_after_a_failed_reload() -> None:
    master = started()
    master.recycling = False
    master.members[0].state.replace_for = "old age"
    assert master.settle() == []


def test_a_worker_that_was_told_to_leave_is_replaced_even_then_and_drains_last() -> None:
    master = started()
    master.recycling = False
    told = master.members[0]
    told.state.replace_for, told.state.told = "TERM", True
    assert master.settle() == ["Spawn"]
    master.boot_all()
    assert told.state.phase is Phase.DRAINING
    assert len(master.having(Phase.READY)) == 2


events = st.lists(
    st.sampled_from(["ready", "die", "hup", "give up", "more", "fewer", "tired", "left"]),
    max_size=40,
)


@given(events=events, count=st.integers(1, 4), surge=st.integers(1, 3), picks=st.randoms())
def test_after_any_history_the_wanted_workers_stand(
    events: list[str], count: int, surge: int, picks: Random
) -> None:
    master = started(count, surge)
    for event in events:
        before = len(master.having(Phase.READY))
        happen(master, event, picks)
        died = event in ("die", "fewer")
        master.settle()
        assert died or len(master.having(Phase.READY)) >= min(before, master.count)
    master.boot_all()
    ready: list[Member] = list(master.having(Phase.READY))
    assert len(ready) == master.count
    assert all(worker.state.generation is master.current for worker in ready)


def happen(master: Master, event: str, picks: Random) -> None:
    """Let one event happen that is not a step of the master."""
    phase = {"ready": Phase.BOOTING, "left": Phase.DRAINING}.get(event, Phase.READY)
    worker = picks.choice(master.having(phase) or [None])
    if event == "ready" and worker:
        master.ready(worker)
    elif event in ("die", "left") and worker:
        master.members.remove(worker)
    elif event == "tired" and worker:
        worker.state.replace_for = "old age"
    elif event == "hup":
        master.candidate = cast(Generation, Release("another"))
    elif event == "give up":
        master.candidate = None
    elif event in ("more", "fewer"):
        master.count = max(1, master.count + (1 if event == "more" else -1))


def slots(master: Master) -> list[int]:
    """Give a slot to every worker without one, as the master does; return the ready ones' slots."""
    for worker in master.members:
        if not worker.state.slots:
            members = [other for other in master.members if other.state.slots]
            worker.state.slots.add(free_slot(members, worker.state.generation, master.count))
    return sorted(slot for worker in master.having(Phase.READY) for slot in worker.state.slots)


def test_every_worker_has_a_slot_of_its_own_also_after_a_reload_and_recycling() -> None:
    master = started(count=3)
    assert slots(master) == [0, 1, 2]
    master.candidate = NEW
    master.settle()
    while booting := master.having(Phase.BOOTING):
        slots(master)
        master.ready(booting[0])
        master.settle()
    assert slots(master) == [0, 1, 2]
    master.having(Phase.READY)[1].state.replace_for = "old age"
    master.settle()
    slots(master)
    master.boot_all()
    assert slots(master) == [0, 1, 2]


def test_a_slot_is_covered_until_somebody_else_has_it() -> None:
    master = started(count=3)
    slots(master)
    gone = master.having(Phase.READY)[1]
    master.members.remove(gone)
    assert uncovered(master.members, 3) == gone.state.slots
    master.having(Phase.READY)[0].state.slots |= gone.state.slots
    assert uncovered(master.members, 3) == set()
