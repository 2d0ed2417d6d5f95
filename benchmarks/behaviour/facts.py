"""The facts of one run, as they are kept in a JSON file; knows nothing of how they came about."""

import os
from pathlib import Path
from typing import Self

import msgspec


class Losses(msgspec.Struct, frozen=True):
    """Account for the requests of a trial: how many, and what became of those without an answer.

    ``kept`` and ``fresh`` were lost on connections that are kept and on new ones; ``longest`` is
    the longest time to an answer, in seconds.
    """

    requests: int
    lost: dict[str, int]
    kept: int
    fresh: int
    longest: float


class Reload(msgspec.Struct, frozen=True):
    """Say what reloads cost, and the seconds that each took; None for one that did not end."""

    seconds: list[float | None]
    losses: Losses


class Broken(msgspec.Struct, frozen=True):
    """Say what a reload of broken code left: of ``asked`` requests ``answered``, a while later."""

    runs: bool
    workers: int
    asked: int
    answered: int
    losses: Losses


class Stop(msgspec.Struct, frozen=True):
    """Say how it ended: of ``flight`` requests at work ``answered``; refused ones are not lost."""

    code: int | None
    seconds: float
    flight: int
    answered: int
    losses: Losses


class Crash(msgspec.Struct, frozen=True):
    """Say after how many seconds a killed worker had a successor at work, None for never."""

    replaced: float | None
    runs: bool
    losses: Losses


class Blocked(msgspec.Struct, frozen=True):
    """Say after how many seconds a blocked worker was ended, and what the log shows of it."""

    noticed: float | None
    watched: float
    stack: bool
    log: list[str]
    losses: Losses


class Spin(msgspec.Struct, frozen=True):
    """Say how often workers were started that all failed, and whether the others serve on."""

    starts: int
    watched: float
    runs: bool
    serves: bool


class Several(msgspec.Struct, frozen=True):
    """Say which protocols answered, before and after a reload, or which options --help has."""

    before: dict[str, bool]
    after: dict[str, bool]
    code: int | None
    options: list[str]


class Metrics(msgspec.Struct, frozen=True):
    """Say how many of ``asked`` requests to ``workers`` a scrape counted; None without metrics."""

    asked: int
    workers: int
    counted: float | None
    options: list[str]


class Facts(msgspec.Struct):
    """Hold what was found out about one server; ``reason`` why there is nothing."""

    title: str
    version: str
    versions: dict[str, str]
    commands: dict[str, str]
    reload_by: str = ""
    reason: str = ""
    reload: Reload | None = None
    broken: Broken | None = None
    stop: Stop | None = None
    crash: Crash | None = None
    blocked: Blocked | None = None
    raises: Spin | None = None
    dies: Spin | None = None
    several: Several | None = None
    metrics: Metrics | None = None


class Machine(msgspec.Struct, frozen=True):
    """Hold where the run took place."""

    cores: int
    kernel: str
    python: str


class Results(msgspec.Struct):
    """Hold one run; it grows while the run goes on. ``rate`` in requests a second."""

    date: str
    command: str
    machine: Machine
    rate: float
    servers: dict[str, Facts] = {}

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file that ``write`` wrote."""
        return msgspec.json.decode(path.read_bytes(), type=cls)

    def write(self, path: Path) -> None:
        """Write everything so far; an older file is there until the new one is whole."""
        draft = path.with_name(f"{path.name}.draft")
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(self)) + b"\n")
        os.replace(draft, path)
