"""The figures of one contender: what was counted, and what follows from it."""

import statistics

import msgspec


class Instructions(msgspec.Struct, frozen=True):
    """Hold the user-space instructions of two runs, of N and of 3 N requests.

    ``parts``: what the second run has more of them, by the library or part of Python.
    """

    contender: str
    case: str
    requests: int
    once: int
    thrice: int
    parts: dict[str, int] = {}

    @property
    def each(self) -> float:
        """Return the instructions of one request: what starting and stopping cost cancels out."""
        return (self.thrice - self.once) / (2 * self.requests)


class Round(msgspec.Struct, frozen=True):
    """Hold one round of load: times in seconds, ``cpu`` of all of the server's processes."""

    requests: int
    seconds: float
    cpu: float
    p99: float
    unanswered: int

    @property
    def each(self) -> float:
        """Return the CPU seconds of one request."""
        return self.cpu / self.requests


class Memory(msgspec.Struct, frozen=True):
    """Hold bytes of all processes, and of the worker."""

    rss: int
    pss: int
    worker_rss: int
    worker_pss: int


class Load(msgspec.Struct, frozen=True):
    """Hold the rounds of one case, and the memory after the last one."""

    contender: str
    case: str
    connections: int
    rounds: list[Round]
    memory: Memory

    @property
    def least(self) -> float:
        """Return the CPU seconds of a request in the best round."""
        return min(one.each for one in self.rounds)

    @property
    def median(self) -> float:
        """Return the CPU seconds of a request in the middle one of the rounds."""
        return statistics.median(one.each for one in self.rounds)

    @property
    def requests(self) -> int:
        """Return the requests of all rounds, which take the same time for every contender."""
        return sum(one.requests for one in self.rounds)

    @property
    def p99(self) -> float:
        """Return the middle one of the rounds' 99th percentiles, in seconds."""
        return statistics.median(one.p99 for one in self.rounds)


class Idle(msgspec.Struct, frozen=True):
    """Hold the memory without connections and with those that are open after one request."""

    contender: str
    connections: int
    before: Memory
    after: Memory
