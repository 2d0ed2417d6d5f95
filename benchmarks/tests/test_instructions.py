"""The instructions of the requests are counted in all processes, reproducibly."""

import sys

import pytest

from benchmarks import instructions
from benchmarks.case import CASES
from benchmarks.installation import Installation
from benchmarks.parts import BYTECODE, PYTHON, SYSTEM
from benchmarks.runner import Runner
from benchmarks.server import NotServing
from benchmarks.tests.conftest import SERVER, Prepare, needs_valgrind, small_contender

REQUESTS = 100
STEPS = 2000  # of the work in a request
SHELL = '"$0" "$@" & trap "kill $!" TERM; wait $!; wait $!'  # runs the server as a child

pytestmark = [needs_valgrind, pytest.mark.slow]


def each(runner: Runner) -> float:
    """Return the instructions of one request."""
    with instructions.counting(runner.start) as counter:
        once, thrice = (one.total() for one in counter.measure(CASES["index"], REQUESTS))
        again = [one.total() for one in counter.measure(CASES["index"], REQUESTS)]
        # Not closer: a server may see its connections closed before the dump, or after it.
        assert again == pytest.approx([once, thrice], rel=0.1)
    return (thrice - once) / (2 * REQUESTS)


def test_only_the_instructions_of_requests_are_counted_and_reproducibly(
    prepare: Prepare,
) -> None:
    idle, busy = (each(prepare(f"work={steps}")) for steps in (1, STEPS))
    assert 20 * STEPS < busy - idle < 200 * STEPS


def test_the_instructions_are_split_by_the_parts_of_a_server(prepare: Prepare) -> None:
    with instructions.counting(prepare(f"work={STEPS}").start) as counter:
        once, thrice = counter.measure(CASES["index"], REQUESTS)
    work = thrice - once
    assert {BYTECODE, PYTHON, SYSTEM} <= work.keys()
    assert work[PYTHON] > 20 * STEPS * 2 * REQUESTS > work[BYTECODE]


def test_the_instructions_of_children_are_counted(prepare: Prepare) -> None:
    runner = prepare()
    program = [sys.executable, str(SERVER), "{port}", f"work={STEPS}"]
    parent = small_contender("parent", command=["sh", "-c", SHELL, *program])
    child = Runner(Installation(parent, runner.plan.venvs), runner.plan, runner.port, "")
    assert each(child) > 20 * STEPS


def test_a_process_that_cannot_be_counted_leaves_no_figure(
    prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instructions, "VALGRIND", ("env", "WITHOUT=valgrind"))
    with (
        instructions.counting(prepare().start) as counter,
        pytest.raises(NotServing, match=r"process \d+ is not counted: .*no FIFO found"),
    ):
        counter.measure(CASES["index"], 4)
