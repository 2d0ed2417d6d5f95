"""The facts of a run as a JSON file; independent of how they were found."""

import os
from pathlib import Path
from typing import Self

import msgspec


class Losses(msgspec.Struct, frozen=True):
    """The requests of a trial: how many, and how many were lost in which way.

    ``kept`` and ``fresh`` were lost on kept-alive and on new connections; ``longest`` is the
    longest response time in seconds.
    """

    requests: int
    lost: dict[str, int]
    kept: int
    fresh: int
    longest: float


class Reload(msgspec.Struct, frozen=True):
    """Reloads of good code: the seconds of each, None for one that did not finish."""

    seconds: list[float | None]
    losses: Losses


class Broken(msgspec.Struct, frozen=True):
    """A reload of broken code: what runs a while later, and how many of ``asked`` it answers."""

    runs: bool
    workers: int
    asked: int
    answered: int
    losses: Losses


class Stop(msgspec.Struct, frozen=True):
    """A stop with ``flight`` requests in flight; refused requests do not count as lost."""

    code: int | None
    seconds: float
    flight: int
    answered: int
    losses: Losses


class Crash(msgspec.Struct, frozen=True):
    """A killed worker: the seconds until its successor answered, None if it never did."""

    replaced: float | None
    runs: bool
    losses: Losses


class Blocked(msgspec.Struct, frozen=True):
    """A blocked worker: the seconds until it was ended, and what the log shows."""

    noticed: float | None
    watched: float
    stack: bool
    log: list[str]
    losses: Losses


class Spin(msgspec.Struct, frozen=True):
    """Workers that fail at start: how many were started, and whether the others keep serving."""

    starts: int
    watched: float
    runs: bool
    serves: bool


class Several(msgspec.Struct, frozen=True):
    """The protocols that answered before and after a reload, or the related options of --help."""

    before: dict[str, bool]
    after: dict[str, bool]
    code: int | None
    options: list[str]


class Metrics(msgspec.Struct, frozen=True):
    """How many of ``asked`` requests to ``workers`` a scrape counted; None without metrics."""

    asked: int
    workers: int
    counted: float | None
    options: list[str]


class Hook(msgspec.Struct, frozen=True):
    """A reload with a hook that raises; no name: there is no hook."""

    name: str
    reload: Broken | None


class Served(msgspec.Struct, frozen=True):
    """How many of ``asked`` requests were answered, by which releases, and by how many workers."""

    asked: int
    answered: int
    releases: list[int]
    workers: int


class Removed(msgspec.Struct, frozen=True):
    """A release that is replaced and removed: after a reload, and after a worker's death."""

    reloaded: Served
    killed: Served
    losses: Losses


class Full(msgspec.Struct, frozen=True):
    """Logs on a full disk; no losses: the server does not start."""

    losses: Losses | None


class Frozen(msgspec.Struct, frozen=True):
    """Every process stopped ``times`` for ``seconds``: how many of ``workers`` were ended then."""

    times: int
    seconds: float
    workers: int
    ended: int
    losses: Losses


class Stale(msgspec.Struct, frozen=True):
    """A pid file that names a living stranger; None where the server has no such thing.

    ``starts``: the server starts over it; ``signals``: its reload by pid file signals the stranger.
    """

    starts: bool | None
    signals: bool | None


class Facts(msgspec.Struct):
    """The facts about a server; ``reason``: why some are missing."""

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
    hook: Hook | None = None
    removed: Removed | None = None
    full: Full | None = None
    frozen: Frozen | None = None
    stale: Stale | None = None


class Machine(msgspec.Struct, frozen=True):
    """The machine of the run."""

    cores: int
    kernel: str
    python: str


class Results(msgspec.Struct):
    """A run; it grows while the run goes on. ``rate`` in requests per second."""

    date: str
    command: str
    machine: Machine
    rate: float
    servers: dict[str, Facts] = {}

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file written by ``write``."""
        return msgspec.json.decode(path.read_bytes(), type=cls)

    def write(self, path: Path) -> None:
        """Write everything so far; the new file replaces the old one only when it is complete."""
        draft = path.with_name(f"{path.name}.draft")
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(self)) + b"\n")
        os.replace(draft, path)
