"""The figures of a contender: what was counted, and what is computed from it."""

import statistics

import msgspec


class Instructions(msgspec.Struct, frozen=True):
    """The user-space instructions of two runs: ``once`` of N requests, ``thrice`` of 3 N.

    ``parts``: the difference of the two, by library or part of Python.
    """

    contender: str
    case: str
    requests: int
    once: int
    thrice: int
    parts: dict[str, int] = {}

    @property
    def per_request(self) -> float:
        """The instructions of one request: the cost of starting and stopping cancels out."""
        return (self.thrice - self.once) / (2 * self.requests)


class Round(msgspec.Struct, frozen=True):
    """One round of load; times in seconds, ``cpu`` of all processes of the server."""

    requests: int
    seconds: float
    cpu: float
    p99: float
    unanswered: int

    @property
    def per_request(self) -> float:
        """The CPU seconds of one request."""
        return self.cpu / self.requests


class Memory(msgspec.Struct, frozen=True):
    """The memory of all processes together and of the worker, in bytes."""

    rss: int
    pss: int
    worker_rss: int
    worker_pss: int


class Load(msgspec.Struct, frozen=True):
    """The rounds of one case, and the memory after the last one."""

    contender: str
    case: str
    connections: int
    rounds: list[Round]
    memory: Memory

    @property
    def least(self) -> float:
        """The CPU seconds of a request in the best round."""
        return min(round.per_request for round in self.rounds)

    @property
    def median(self) -> float:
        """The CPU seconds of a request in the median round."""
        return statistics.median(round.per_request for round in self.rounds)

    @property
    def requests(self) -> int:
        """The requests of all rounds, which last equally long for every contender."""
        return sum(round.requests for round in self.rounds)

    @property
    def p99(self) -> float:
        """The median of the rounds' 99th percentiles, in seconds."""
        return statistics.median(round.p99 for round in self.rounds)


class Idle(msgspec.Struct, frozen=True):
    """The memory before and with ``connections`` that are open and idle."""

    contender: str
    connections: int
    before: Memory
    after: Memory
