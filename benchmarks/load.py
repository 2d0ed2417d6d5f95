"""CPU time per request: rounds of wrk, on other cores than the server, over all contenders."""

import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from benchmarks import processes, wrk
from benchmarks.answers import WrongAnswer
from benchmarks.case import Case
from benchmarks.figures import Load, Memory, Round
from benchmarks.plan import Plan
from benchmarks.runner import Runner
from benchmarks.server import Server


@dataclass
class LoadTest:
    """The rounds of one server in one case at one number of connections."""

    runner: Runner
    server: Server
    name: str
    case: Case
    connections: int
    rounds: list[Round] = field(default_factory=list)
    memory: Memory = field(default=Memory(0, 0, 0, 0))

    def __str__(self) -> str:
        return f"{self.name} at {self.connections}: {self.runner.name}"

    def run(self, plan: Plan) -> None:
        """Run one round; raise WrongAnswer if there are errors among the answers."""
        before = processes.cpu(self.server.pid)
        report = self._wrk(plan)
        used = processes.cpu(self.server.pid) - before
        if report.refused or not report.requests:
            raise WrongAnswer(f"{self.name}: {report.refused} errors in {report.requests} answers")
        seconds, p99 = report.microseconds / 1e6, report.p99 / 1e6
        self.rounds.append(Round(report.requests, seconds, used, p99, report.unanswered))
        self.memory = processes.memory(self.server.pid)

    def _wrk(self, plan: Plan) -> wrk.Report:
        try:
            return wrk.run(self.case, self.server.port, self.connections, plan)
        except subprocess.CalledProcessError as error:
            raise WrongAnswer(f"{self.name}: wrk: {error.stderr.strip()}") from error

    def result(self) -> Load:
        """Return the rounds without the first one, which warmed up."""
        return Load(self.runner.name, self.name, self.connections, self.rounds[1:], self.memory)


def order(tests: Sequence[LoadTest], rounds: int) -> Iterator[LoadTest]:
    """Yield every test once a round, in ``rounds`` rounds and one before them to warm up.

    One case is run on all servers before the next case. Every round starts with another server, so
    that no server always follows the same one.
    """
    for number in range(rounds + 1):
        for case in dict.fromkeys((test.name, test.connections) for test in tests):
            same = [test for test in tests if (test.name, test.connections) == case]
            shift = number % len(same)
            yield from same[shift:] + same[:shift]
