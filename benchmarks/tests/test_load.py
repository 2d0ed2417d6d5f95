"""Rounds visit all servers in turn, and count only the CPU time of the server."""

import os

import pytest

from benchmarks import load
from benchmarks.answers import WrongAnswer
from benchmarks.case import CASES
from benchmarks.plan import Cpus, pin
from benchmarks.tests.conftest import Prepare, needs_wrk


def lanes(prepare: Prepare, *names: str) -> list[load.Lane]:
    """Return lanes of two cases, which no test runs."""
    runner = prepare()
    return [
        load.Lane(runner, runner.start(), f"{case} {name}"[:5], CASES[case], connections)
        for case in ("index", "hello")
        for connections in (8, 64)
        for name in names
    ]


def test_every_lane_runs_its_rounds_and_one_to_warm_up(prepare: Prepare) -> None:
    every = lanes(prepare, "a", "b", "c")
    order = list(load.order(every, 4))
    assert len(order) == len(every) * 5
    for number in range(5):
        turn = order[number * len(every) : (number + 1) * len(every)]
        assert sorted(map(id, turn)) == sorted(map(id, every))


def test_each_round_runs_a_case_on_all_servers_and_starts_with_another_one(
    prepare: Prepare,
) -> None:
    every = lanes(prepare, "a", "b", "c")
    order = list(load.order(every, 2))
    cases = [(lane.name, lane.connections) for lane in order]
    assert cases[:12] == [(n, c) for n in ("index", "hello") for c in (8, 64) for _ in range(3)]
    firsts = [order[number * len(every)] for number in range(3)]
    assert firsts == every[:3]


def test_the_load_stays_off_the_core_of_the_server() -> None:
    cpus = Cpus.split()
    cores = os.sched_getaffinity(0)
    assert len(cpus.server) == 1
    assert cpus.server | cpus.load == cores
    assert not cpus.server & cpus.load or len(cores) == 1
    assert pin({3, 1}) == ["taskset", "-c", "1,3"]


@needs_wrk
def test_a_round_counts_requests_and_their_cpu_time(prepare: Prepare) -> None:
    runner = prepare("work=2000")
    with runner.start(prefix=pin(runner.plan.cpus.server)) as server:
        lane = load.Lane(runner, server, "index", CASES["index"], 4)
        lane.run(runner.plan)
        lane.run(runner.plan)
    (second,) = lane.result().rounds
    assert second.requests > 50
    assert 0.9 < second.seconds < 60
    assert 0 < second.cpu < second.seconds * 1.2
    assert 0 < second.p99 < 60
    assert second.unanswered == 0
    assert lane.result().memory.worker_rss > 1_000_000


@needs_wrk
def test_a_server_that_answers_wrong_under_load_is_detected(prepare: Prepare) -> None:
    runner = prepare("later=5")
    with runner.start() as server, pytest.raises(WrongAnswer, match="errors in"):
        load.Lane(runner, server, "index", CASES["index"], 4).run(runner.plan)


@needs_wrk
def test_a_server_that_has_exited_is_detected(prepare: Prepare) -> None:
    runner = prepare()
    with runner.start() as server:
        lane = load.Lane(runner, server, "index", CASES["index"], 4)
    with pytest.raises(WrongAnswer, match="unable to connect"):
        lane.run(runner.plan)
