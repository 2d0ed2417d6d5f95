"""Who answers wrong or fails is left out with a reason; the others go on."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.campaign import Campaign
from benchmarks.contender import Contender
from benchmarks.machine import describe
from benchmarks.plan import Plan
from benchmarks.results import LeftOut, Results
from benchmarks.tests.conftest import little, needs_wrk
from testkit.ports import free_port


def campaign(folder: Path, contenders: list[Contender], **plan: Any) -> tuple[Results, list[int]]:
    """Run contenders; return the results, and how many entrants there were at each save."""
    results = Results(date="2026-01-02T03:04:05+00:00", command="x", commit="", machine=describe())
    saved: list[int] = []
    size = Plan.short(venvs=folder, port=free_port(len(contenders)), idle=10, **plan)
    Campaign(size, results, lambda: saved.append(len(results.entrants))).run(contenders, "")
    return results, saved


@needs_wrk
def test_who_answers_right_is_measured_and_who_does_not_is_left_out(tmp_path: Path) -> None:
    wrong = little("wrong", "body")
    absent = little("absent", programs=["no-such-program", "nor-this"])
    measures = ("cpu", "idle")
    contenders = [little("one"), wrong, little("two"), absent]
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
def test_who_fails_under_load_is_left_out_and_the_others_go_on(tmp_path: Path) -> None:
    contenders = [little("early", "later=20"), little("late")]
    results, _ = campaign(tmp_path, contenders, measures=("cpu", "idle"), rounds=2)
    assert [one.name for one in results.entrants] == ["late"]
    assert [len(one.rounds) for one in results.loads] == [2]
    assert [one.contender for one in results.idle] == ["late"]
    (left_out,) = results.left_out
    assert left_out.name == "early"
    assert "errors in" in left_out.reason


def test_cases_that_are_not_asked_for_are_not_asked(tmp_path: Path) -> None:
    results, _ = campaign(tmp_path, [little("one")], measures=(), cases=("echo",))
    assert results.entrants == []
    assert results.left_out == []


@needs_wrk
@pytest.mark.slow
def test_who_has_failed_is_not_run_again(tmp_path: Path) -> None:
    contenders = [little("early", "later=20", cases=["index"]), little("late")]
    results, _ = campaign(tmp_path, contenders, measures=("cpu",), connections=(2, 4))
    assert len(results.left_out) == 1
    assert {(one.contender, one.connections) for one in results.loads} == {("late", 2), ("late", 4)}
