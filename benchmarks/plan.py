"""The plan of a run: what to measure, how long, and on which cores."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.case import ALL

MEASURES = ("instructions", "cpu", "idle")


def pin(cores: Iterable[int]) -> list[str]:
    """Return the command prefix that keeps a process on ``cores``."""
    return ["taskset", "-c", ",".join(map(str, sorted(cores)))]


@dataclass(frozen=True)
class Cpus:
    """The core of the server, and the cores of wrk and PostgreSQL."""

    server: frozenset[int]
    load: frozenset[int]

    @classmethod
    def split(cls) -> "Cpus":
        """Give the first core to the server, which has one worker, and the others to the load."""
        cores = sorted(os.sched_getaffinity(0))
        return cls(frozenset(cores[:1]), frozenset(cores[1:] or cores))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The size of a run; the defaults are those of the published figures.

    ``requests`` is the N of the instructions; ``rounds``, of ``seconds`` each, are those that
    count, after one more to warm up; ``idle`` is a number of connections; ``here``: see
    Installation.
    """

    venvs: Path
    port: int
    measures: tuple[str, ...] = MEASURES
    cases: tuple[str, ...] = tuple(ALL)
    requests: int = 1000
    connections: tuple[int, ...] = (64, 400)
    rounds: int = 8
    seconds: int = 3
    idle: int = 10_000
    here: bool = False
    cpus: Cpus = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "cpus", Cpus.split())

    @classmethod
    def short(cls, **given: object) -> "Plan":
        """Return a plan that only shows that everything runs; its figures mean nothing."""
        smallest = {"requests": 40, "connections": (8,), "rounds": 1, "seconds": 2, "idle": 100}
        return cls(**{**smallest, **given})  # type: ignore[arg-type]
