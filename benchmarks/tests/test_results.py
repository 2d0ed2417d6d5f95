"""The figures of a run, and the file that keeps them."""

from pathlib import Path

import pytest

from benchmarks import machine
from benchmarks.figures import Idle, Instructions, Load, Memory, Round
from benchmarks.results import Entrant, LeftOut, Results

MEMORY = Memory(rss=4, pss=3, worker_rss=2, worker_pss=1)


def some(*names: str) -> Results:
    """Return a run in which each contender has a figure of everything."""
    results = Results(
        date="2026-01-02T03:04:05+00:00", command="x", commit="abc", machine=machine.describe()
    )
    for name in names:
        results.entrants.append(Entrant(name, name.upper(), "bare", "folder", ["x"], {}, {}))
        results.instructions.append(Instructions(name, "index", 100, 5_000, 15_000))
        rounds = [round_of(1000, cpu) for cpu in (0.3, 0.1, 0.2, 0.5)]
        results.loads.append(Load(name, "index", 64, rounds, MEMORY))
        results.idle.append(Idle(name, 10, MEMORY, MEMORY))
    return results


def round_of(requests: int, cpu: float) -> Round:
    """Return a round that took a second."""
    return Round(requests=requests, seconds=1, cpu=cpu, p99=0.002 + cpu, unanswered=0)


def test_start_and_end_cancel_out_of_the_instructions() -> None:
    start_and_end, each, requests = 2_846_000_000, 47_000, 1000
    once = start_and_end + requests * each
    thrice = start_and_end + 3 * requests * each
    assert Instructions("x", "index", requests, once, thrice).each == each


def test_a_load_has_its_best_and_its_median_round() -> None:
    (load,) = some("one").loads
    assert load.least == pytest.approx(0.0001)
    assert load.median == pytest.approx(0.00025)
    assert load.requests == 4000
    assert load.p99 == pytest.approx(0.252)


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    file = tmp_path / "new/results.json"
    results = some("one", "two")
    results.write(file)
    assert Results.read(file) == results
    assert [path.name for path in file.parent.iterdir()] == ["results.json"]


def test_a_contender_that_is_left_out_loses_its_figures_and_keeps_the_first_reason() -> None:
    results = some("one", "two")
    results.leave_out("one", "ONE", "it broke")
    results.leave_out("one", "ONE", "it broke again")
    assert results.left_out == [LeftOut("one", "ONE", "it broke")]
    results.left_out.clear()
    assert results == some("two")


def test_the_machine_is_described() -> None:
    here = machine.describe()
    assert here.cores >= 1
    assert here.memory > 1 << 28
    assert here.kernel
    assert here.python.startswith("3.")
    assert all(version[0].isdigit() for version in here.tools.values())
