"""The results of one run, as they are kept in a JSON file; knows nothing of how they came about."""

import os
import statistics
from pathlib import Path
from typing import Self

import msgspec


class Machine(msgspec.Struct, frozen=True):
    """Hold where the run took place; ``memory`` in bytes."""

    processor: str
    cores: int
    memory: int
    system: str
    kernel: str
    python: str
    tools: dict[str, str]


class Entrant(msgspec.Struct, frozen=True):
    """Hold a contender that answered right; ``answers``: the bytes of a whole one, by case."""

    name: str
    title: str
    kind: str
    folder: str
    command: list[str]
    versions: dict[str, str]
    answers: dict[str, int]


class LeftOut(msgspec.Struct, frozen=True):
    """Hold a contender without figures, and why."""

    name: str
    title: str
    reason: str


class Instructions(msgspec.Struct, frozen=True):
    """Hold the user-space instructions of two runs, of N and of 3 N requests."""

    contender: str
    case: str
    requests: int
    once: int
    thrice: int

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


class Results(msgspec.Struct):
    """Hold one run; it grows while the run goes on."""

    date: str
    command: str
    commit: str
    machine: Machine
    entrants: list[Entrant] = []
    left_out: list[LeftOut] = []
    instructions: list[Instructions] = []
    loads: list[Load] = []
    idle: list[Idle] = []

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file that ``write`` wrote."""
        return msgspec.json.decode(path.read_bytes(), type=cls)

    def title(self, name: str) -> str:
        """Return a contender's name for readers."""
        return next((one.title for one in self.entrants if one.name == name), name)

    def leave_out(self, name: str, title: str, reason: str) -> None:
        """Forget the figures of a contender, and keep why."""
        self.entrants = [one for one in self.entrants if one.name != name]
        self.instructions = [one for one in self.instructions if one.contender != name]
        self.loads = [one for one in self.loads if one.contender != name]
        self.idle = [one for one in self.idle if one.contender != name]
        if all(one.name != name for one in self.left_out):
            self.left_out.append(LeftOut(name, title, reason))

    def write(self, path: Path) -> None:
        """Write everything so far; an older file is there until the new one is whole."""
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{path.name}.draft")
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(self)) + b"\n")
        os.replace(draft, path)
