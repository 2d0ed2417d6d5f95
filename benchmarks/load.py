"""CPU a request: rounds of wrk away from the server's cores, in turn over all that take part."""

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
class Lane:
    """Hold the rounds of one server in one case."""

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
        """Take one round; raise WrongAnswer when an answer was none."""
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
        """Return the rounds but the first, which warmed up."""
        return Load(self.runner.name, self.name, self.connections, self.rounds[1:], self.memory)


def order(lanes: Sequence[Lane], rounds: int) -> Iterator[Lane]:
    """Yield each lane in each round and in the one that warms up.

    A case goes over all servers before the next one, and every round begins with another server,
    so that no one always comes after the same.
    """
    for number in range(rounds + 1):
        for case in dict.fromkeys((lane.name, lane.connections) for lane in lanes):
            same = [lane for lane in lanes if (lane.name, lane.connections) == case]
            shift = number % len(same)
            yield from same[shift:] + same[:shift]
