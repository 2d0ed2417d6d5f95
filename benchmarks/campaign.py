"""One run from start to end: check every contender, then take one measure after the other.

A contender that fails loses its figures, and the results name the reason; the others go on.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from benchmarks import idle, instructions, load
from benchmarks.answers import WrongAnswer
from benchmarks.case import CASES
from benchmarks.contender import Contender
from benchmarks.figures import Instructions
from benchmarks.installation import Installation, InstallationError
from benchmarks.plan import Plan, pin
from benchmarks.progress import say, track
from benchmarks.results import Results
from benchmarks.runner import Runner
from benchmarks.server import NotServing

FAILURES = (EOFError, InstallationError, NotServing, OSError, WrongAnswer)


class Campaign:
    """A run in progress: the contenders that still take part, and the results so far."""

    def __init__(self, plan: Plan, results: Results, save: Callable[[], None]) -> None:
        self._plan, self._results, self._save = plan, results, save
        self._runners: dict[str, Runner] = {}

    def run(self, contenders: list[Contender], database: str) -> None:
        """Carry out the plan, and save the results after every long step."""
        self._check_all(contenders, database)
        measures = {
            "instructions": self._count_instructions,
            "cpu": self._load_all,
            "idle": self._measure_idle,
        }
        for name in self._plan.measures:
            self._save()
            measures[name]()
        self._save()

    def _check_all(self, contenders: list[Contender], database: str) -> None:
        candidates = [
            Runner(self._installation(contender), self._plan, port, database)
            for port, contender in enumerate(contenders, self._plan.port)
        ]
        self._runners = {runner.name: runner for runner in candidates if runner.cases}
        for runner in track(
            list(self._runners.values()), lambda runner: f"install and check: {runner.name}"
        ):
            with self._or_left_out(runner):
                self._results.entrants.append(runner.entrant())

    def _installation(self, contender: Contender) -> Installation:
        return Installation(contender, self._plan.venvs, here=self._plan.here)

    def _count_instructions(self) -> None:
        runners = list(self._runners.values())
        for runner in track(runners, lambda runner: f"instructions: {runner.name}"):
            with self._or_left_out(runner), instructions.counting(runner.start) as counter:
                for name, case in runner.cases.items():
                    requests = max(1, self._plan.requests // case.weight)
                    once, thrice = counter.measure(case, requests)
                    totals = (requests, once.total(), thrice.total())
                    figure = Instructions(runner.name, name, *totals, dict(thrice - once))
                    self._results.instructions.append(figure)
            self._save()

    def _load_all(self) -> None:
        with ExitStack() as stack:
            tests = [
                test
                for runner in list(self._runners.values())
                for test in self._start_tests(runner, stack)
            ]
            rounds = list(load.order(tests, self._plan.rounds))
            for test in track(rounds, lambda test: f"cpu: {test}"):
                with self._or_left_out(test.runner) as takes_part:
                    if takes_part:
                        test.run(self._plan)
        taking_part = (test for test in tests if test.runner.name in self._runners)
        self._results.loads = [test.result() for test in taking_part]

    def _start_tests(self, runner: Runner, stack: ExitStack) -> list[load.LoadTest]:
        """Start a server that runs until the last round; return its load tests."""
        cases = {name: case for name, case in runner.cases.items() if name in CASES}
        with self._or_left_out(runner):
            if cases:
                server = stack.enter_context(runner.start(prefix=pin(self._plan.cpus.server)))
                return [
                    load.LoadTest(runner, server, name, case, connections)
                    for name, case in cases.items()
                    for connections in self._plan.connections
                ]
        return []

    def _measure_idle(self) -> None:
        runners = list(self._runners.values())
        idle.raise_file_limit(self._plan.idle)
        for runner in track(runners, lambda runner: f"idle connections: {runner.name}"):
            with self._or_left_out(runner), runner.start() as server:
                case = next(iter(runner.cases.values()))
                self._results.idle.append(idle.measure(server, case, self._plan.idle))

    @contextmanager
    def _or_left_out(self, runner: Runner) -> Iterator[bool]:
        """Yield whether a contender still takes part; leave it out if the block fails."""
        try:
            yield runner.name in self._runners
        except FAILURES as error:
            self._runners.pop(runner.name, None)
            reason = str(error) or type(error).__name__
            self._results.leave_out(runner.name, runner.installation.contender.title, reason)
            say(f"left out: {runner.name}: {reason}")
