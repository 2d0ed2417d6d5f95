"""A contender that answers wrong or fails is left out with a reason; the others continue."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.campaign import Campaign
from benchmarks.contender import Contender
from benchmarks.machine import describe
from benchmarks.plan import Plan
from benchmarks.results import LeftOut, Results
from benchmarks.tests.conftest import needs_wrk, small_contender
from testkit.ports import free_port


def campaign(folder: Path, contenders: list[Contender], **plan: Any) -> tuple[Results, list[int]]:
    """Run contenders; return the results, and the number of entrants at each save."""
    results = Results(date="2026-01-02T03:04:05+00:00", command="x", commit="", machine=describe())
    saved: list[int] = []
    size = Plan.short(venvs=folder, port=free_port(len(contenders)), idle=10, **plan)
    Campaign(size, results, lambda: saved.append(len(results.entrants))).run(contenders, "")
    return results, saved


@needs_wrk
def test_a_contender_that_answers_wrong_is_left_out_and_the_others_are_measured(
    tmp_path: Path,
) -> None:
    wrong = small_contender("wrong", "body")
    absent = small_contender("absent", programs=["no-such-program", "nor-this"])
    measures = ("cpu", "idle")
    contenders = [small_contender("one"), wrong, small_contender("two"), absent]
    results, saved = campaign(tmp_path, contenders, measures=measures)
    assert [one.name for one in results.entrants] == ["one", "two"]
    assert results.left_out == [
        LeftOut("wrong", "Wrong", """GET /index: body b'{"message": "Goodbye"}'"""),
        LeftOut(
            "absent",
            "Absent",
            "not installed: no-such-program nor-this"
            " (on Debian: apt-get install no-such-program nor-this)",
        ),
    ]
    assert [(one.contender, one.connections) for one in results.loads] == [("one", 8), ("two", 8)]
    assert [(one.contender, one.connections) for one in results.idle] == [("one", 10), ("two", 10)]
    assert saved == [2, 2, 2]


@needs_wrk
def test_a_contender_that_fails_under_load_is_left_out_and_the_others_continue(
    tmp_path: Path,
) -> None:
    contenders = [small_contender("early", "later=20"), small_contender("late")]
    results, _ = campaign(tmp_path, contenders, measures=("cpu", "idle"), rounds=2)
    assert [one.name for one in results.entrants] == ["late"]
    assert [len(one.rounds) for one in results.loads] == [2]
    assert [one.contender for one in results.idle] == ["late"]
    (left_out,) = results.left_out
    assert left_out.name == "early"
    assert "errors in" in left_out.reason


def test_only_the_chosen_cases_are_run(tmp_path: Path) -> None:
    results, _ = campaign(tmp_path, [small_contender("one")], measures=(), cases=("echo",))
    assert results.entrants == []
    assert results.left_out == []


@needs_wrk
@pytest.mark.slow
def test_a_contender_that_failed_is_not_run_again(tmp_path: Path) -> None:
    contenders = [small_contender("early", "later=20", cases=["index"]), small_contender("late")]
    results, _ = campaign(tmp_path, contenders, measures=("cpu",), connections=(2, 4))
    assert len(results.left_out) == 1
    assert {(one.contender, one.connections) for one in results.loads} == {("late", 2), ("late", 4)}
