"""What a run is to measure, and where."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.case import ALL

MEASURES = ("instructions", "cpu", "idle")


def pin(cores: Iterable[int]) -> list[str]:
    """Return what before a command keeps it on ``cores``."""
    return ["taskset", "-c", ",".join(map(str, sorted(cores)))]


@dataclass(frozen=True)
class Cpus:
    """Hold the core of the server, and those of the load and of PostgreSQL."""

    server: frozenset[int]
    load: frozenset[int]

    @classmethod
    def split(cls) -> "Cpus":
        """Give the server, which has one worker, the first core, and the load the others."""
        cores = sorted(os.sched_getaffinity(0))
        return cls(frozenset(cores[:1]), frozenset(cores[1:] or cores))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Hold the size of a run; the defaults are those of the published figures.

    ``requests``: N of the instructions. ``rounds`` of ``seconds`` are those that count; one more
    goes before them to warm up. ``idle``: connections that are kept open. ``here``: see
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
        """Return a plan that shows that everything runs; its figures mean nothing."""
        least = {"requests": 40, "connections": (8,), "rounds": 1, "seconds": 2, "idle": 100}
        return cls(**{**least, **given})  # type: ignore[arg-type]
