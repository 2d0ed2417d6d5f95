"""One run from its beginning to its end: who takes part, then one measure after the other.

A contender that fails on the way loses its figures and keeps a reason; the others go on.
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
    """Hold who still takes part, and the results so far."""

    def __init__(self, plan: Plan, results: Results, save: Callable[[], None]) -> None:
        self._plan, self._results, self._save = plan, results, save
        self._runners: dict[str, Runner] = {}

    def run(self, contenders: list[Contender], database: str) -> None:
        """Do everything that the plan says, and save after each step that took long."""
        self._admit(contenders, database)
        measures = {"instructions": self._count, "cpu": self._load, "idle": self._rest}
        for name in self._plan.measures:
            self._save()
            measures[name]()
        self._save()

    def _admit(self, contenders: list[Contender], database: str) -> None:
        candidates = [
            Runner(self._installation(one), self._plan, port, database)
            for port, one in enumerate(contenders, self._plan.port)
        ]
        self._runners = {one.name: one for one in candidates if one.cases}
        for runner in track(list(self._runners.values()), lambda one: f"install, ask: {one.name}"):
            with self._or_left_out(runner):
                self._results.entrants.append(runner.entrant())

    def _installation(self, contender: Contender) -> Installation:
        return Installation(contender, self._plan.venvs, here=self._plan.here)

    def _count(self) -> None:
        runners = list(self._runners.values())
        for runner in track(runners, lambda one: f"instructions: {one.name}"):
            with self._or_left_out(runner), instructions.counting(runner.start) as counter:
                for name, case in runner.cases.items():
                    requests = max(1, self._plan.requests // case.weight)
                    once, thrice = counter.measure(case, requests)
                    totals = (requests, once.total(), thrice.total())
                    figure = Instructions(runner.name, name, *totals, dict(thrice - once))
                    self._results.instructions.append(figure)
            self._save()

    def _load(self) -> None:
        with ExitStack() as stack:
            lanes = [
                lane
                for runner in list(self._runners.values())
                for lane in self._lanes(runner, stack)
            ]
            rounds = list(load.order(lanes, self._plan.rounds))
            for lane in track(rounds, lambda one: f"cpu: {one}"):
                with self._or_left_out(lane.runner) as takes_part:
                    if takes_part:
                        lane.run(self._plan)
        taking_part = (lane for lane in lanes if lane.runner.name in self._runners)
        self._results.loads = [lane.result() for lane in taking_part]

    def _lanes(self, runner: Runner, stack: ExitStack) -> list[load.Lane]:
        """Start a server that runs until the last round, and return its part in them."""
        cases = {name: case for name, case in runner.cases.items() if name in CASES}
        with self._or_left_out(runner):
            if cases:
                server = stack.enter_context(runner.start(prefix=pin(self._plan.cpus.server)))
                return [
                    load.Lane(runner, server, name, case, connections)
                    for name, case in cases.items()
                    for connections in self._plan.connections
                ]
        return []

    def _rest(self) -> None:
        runners = list(self._runners.values())
        idle.allow(self._plan.idle)
        for runner in track(runners, lambda one: f"idle connections: {one.name}"):
            with self._or_left_out(runner), runner.start() as server:
                case = next(iter(runner.cases.values()))
                self._results.idle.append(idle.measure(server, case, self._plan.idle))

    @contextmanager
    def _or_left_out(self, runner: Runner) -> Iterator[bool]:
        """Yield whether a contender still takes part; it no longer does when something fails."""
        try:
            yield runner.name in self._runners
        except FAILURES as error:
            self._runners.pop(runner.name, None)
            reason = str(error) or type(error).__name__
            self._results.leave_out(runner.name, runner.installation.contender.title, reason)
            say(f"left out: {runner.name}: {reason}")
