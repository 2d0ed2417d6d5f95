"""CI's second run of failed tests: it forgives a race, names it, and hides nothing else."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from testkit.projects import ROOT

NAMED = re.compile(r"^FLAKY: (.*)$", re.MULTILINE)
AGAIN = "Once more, by themselves"
PLUGINS = "xdist.plugin,xdist.looponfail,pytest_timeout"  # all others only cost a start's seconds
DEALT = ("--numprocesses=2", "--dist=loadscope")
HEAD = """
import os, pathlib, time, pytest

def first_time():
    mark = pathlib.Path(__file__).with_suffix(".tried")
    tried = mark.exists()
    mark.touch()
    return not tried
"""
GOOD = "def test_good(): pass\n"
BAD = "def test_bad(): assert False\n"
RACE = "def test_race(): assert not first_time()\n"
ERROR = """
@pytest.fixture
def server(): assert not first_time()
def test_race(server): pass
"""
LEFTOVER = """
@pytest.fixture
def server():
    yield
    assert not first_time()
def test_race(server): pass
"""
CRASH = "def test_race(): first_time() and os._exit(1)\n"
HANG = """
@pytest.mark.timeout(1)
def test_race(): first_time() and time.sleep(60)
"""
ODD = """
@pytest.mark.parametrize("name", ["a b", "a@b", "a::b"])
def test_race(name): assert name != "a@b" or not first_time()
"""
MANY = """
@pytest.mark.parametrize("number", range(40))
def test_race(number): assert os.path.exists(f"{number}") or pathlib.Path(f"{number}").touch()
"""


@dataclass(frozen=True)
class Outcome:
    """What a run came to."""

    status: int
    output: str
    flaky: list[str]


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Outcome]:
    """Return a function that runs files of tests as CI does."""

    def run(files: dict[str, str], *arguments: str) -> Outcome:
        shutil.copy(ROOT / "conftest.py", tmp_path)
        for name, text in files.items():
            (tmp_path / name).write_text(HEAD + text)
        others = {name: value for name, value in os.environ.items() if "PYTEST" not in name}
        result = subprocess.run(
            [sys.executable, str(ROOT / ".ci" / "retry.py"), *arguments],
            cwd=tmp_path,
            env=others | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": PLUGINS},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return Outcome(result.returncode, result.stdout, NAMED.findall(result.stdout))

    return run


def test_a_run_without_a_failure_is_not_repeated(run: Callable[..., Outcome]) -> None:
    outcome = run({"test_good.py": GOOD})
    assert (outcome.status, outcome.flaky) == (0, [])
    assert AGAIN not in outcome.output


def test_a_test_that_fails_once_is_named(run: Callable[..., Outcome]) -> None:
    outcome = run({"test_good.py": GOOD, "test_race.py": RACE})
    assert (outcome.status, outcome.flaky) == (0, ["test_race.py::test_race"]), outcome.output
    assert "1 passed in" in outcome.output


def test_every_test_that_fails_once_is_named_however_it_fails(run: Callable[..., Outcome]) -> None:
    ways = {"call": RACE, "set_up": ERROR, "tear_down": LEFTOVER, "crash": CRASH, "hang": HANG}
    files = {f"test_{way}.py": text for way, text in ways.items()}
    outcome = run({**files, "test_good.py": GOOD, "test_odd.py": ODD}, *DEALT)
    named = [f"test_{way}.py::test_race" for way in ways] + ["test_odd.py::test_race[a@b]"]
    assert (outcome.status, sorted(outcome.flaky)) == (0, sorted(named)), outcome.output
    assert f"{len(named)} passed in" in outcome.output


def test_a_test_that_fails_twice_fails_the_run(run: Callable[..., Outcome]) -> None:
    outcome = run({"test_bad.py": BAD, "test_race.py": RACE})
    assert (outcome.status, outcome.flaky) == (1, []), outcome.output
    assert AGAIN in outcome.output


def test_many_failures_are_no_race(run: Callable[..., Outcome]) -> None:
    outcome = run({"test_race.py": MANY}, *DEALT)
    assert outcome.status != 0
    assert outcome.flaky == []
    assert AGAIN not in outcome.output
    assert "40 failed" not in outcome.output


@pytest.mark.parametrize(
    ("text", "arguments"),
    [("assert not first_time()", ()), ("assert not first_time()", DEALT), ("", ())],
    ids=["import", "import-dealt", "empty"],
)
def test_what_is_not_the_failure_of_a_test_fails_the_run(
    run: Callable[..., Outcome], text: str, arguments: tuple[str, ...]
) -> None:
    outcome = run({"test_race.py": text}, *arguments)
    assert outcome.status != 0, outcome.output
    assert outcome.flaky == []
    assert AGAIN not in outcome.output
