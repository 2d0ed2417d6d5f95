"""Metrics: each worker counts in files of one folder, and a scrape adds them up.

prometheus-client writes and reads the files. Their names end with a number. A worker holds the
lowest free number as long as it lives, and continues the counts of the worker that had it before.
So no count goes back when a worker exits, and there are never more files than workers that ran at
once.
"""

import asyncio
import fcntl
import itertools
import os
import shutil
import struct
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import cache
from importlib import util
from pathlib import Path
from typing import Any, Protocol

from api_hour.exceptions import INSTALL, ConfigError, DatabaseError

FOLDER = "API_HOUR_METRICS"  # environment variable, also of the master's successor
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MAX_ATTEMPTS = 100  # to read the files while others create and remove some
PING_INTERVAL = 5.0  # seconds between two pings of an engine
LAG = "Seconds that the event loop is late, in the worst worker"
_lag: list[Callable[[float], None]] = []
_samplers: list[Callable[[], None]] = []
_locks: list[Any] = []  # the lock of this process, held until it ends


class Pool(Protocol):
    """An engine with connections, whose state the metrics can show."""

    @property
    def size(self) -> int:
        """Return the number of open connections."""

    @property
    def freesize(self) -> int:
        """Return the number of idle connections."""

    @property
    def waiting(self) -> int:
        """Return the number of tasks that wait for a connection."""

    async def ping(self) -> None:
        """Return once the engine answers; raise api_hour.DatabaseError if it does not."""


def open_folder(uid: int, gid: int) -> str:
    """Return the folder of this daemon; create it for ``uid`` and ``gid`` if there is none."""
    if folder := os.environ.get(FOLDER):
        return folder
    if util.find_spec("prometheus_client") is None:
        raise ConfigError(f"metrics need the package prometheus-client: {INSTALL['metrics']}")
    where = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0] or None
    os.environ[FOLDER] = folder = tempfile.mkdtemp(prefix="api_hour-metrics-", dir=where)
    if (uid, gid) != (os.geteuid(), os.getegid()):
        os.chown(folder, uid, gid)
    return folder


def hand_over() -> dict[str, str]:
    """Return the environment that tells the master's successor where the folder is."""
    return {FOLDER: os.environ[FOLDER]} if FOLDER in os.environ else {}


def remove_folder() -> None:
    """Remove the folder; called when the last worker has exited."""
    if folder := os.environ.pop(FOLDER, None):
        shutil.rmtree(folder, ignore_errors=True)


def start_counting(reason: str) -> None:
    """Count in this process; called before the project, with its own metrics, is imported."""
    folder = os.environ[FOLDER]
    number = _take_number(Path(folder))
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
    from prometheus_client import Counter, Gauge, values

    values.ValueClass = values.MultiProcessValue(lambda: number)  # type: ignore[no-untyped-call]
    starts = Counter("worker_starts", "Workers started, by reason", ["reason"])
    starts.labels(reason).inc()
    _lag.append(Gauge("event_loop_lag_seconds", LAG, multiprocess_mode="livemax").set)


def on_sample(sample: Callable[[], None]) -> None:
    """Call ``sample`` about once a second, in the event loop, and when the worker exits."""
    _samplers.append(sample)


def sample(late: float = 0.0) -> None:
    """Take every sample; ``late``: seconds that the event loop is behind."""
    for set_lag in _lag:
        set_lag(late)
    for take in _samplers:
        take()


@asynccontextmanager
async def observed(name: str, pool: Pool) -> AsyncIterator[None]:
    """Show the state of the engine ``name`` in the metrics while the context is open."""
    if not _locks:
        yield
        return
    up, connections = _engine_gauges()
    states = {state: connections.labels(name, state) for state in ("used", "free", "waiting")}

    def sample_pool() -> None:
        states["used"].set(pool.size - pool.freesize)
        states["free"].set(pool.freesize)
        states["waiting"].set(pool.waiting)

    on_sample(sample_pool)
    pinging = asyncio.create_task(_ping_forever(pool, up.labels(name)))
    try:
        yield
    finally:
        pinging.cancel()
        _samplers.remove(sample_pool)


@cache
def _engine_gauges() -> tuple[Any, Any]:
    from prometheus_client import Gauge

    up = Gauge("engine_up", "Whether an engine answers", ["engine"], multiprocess_mode="livemin")
    connections = Gauge(
        "engine_connections",
        "Connections of an engine's pool, and tasks that wait for one",
        ["engine", "state"],
        multiprocess_mode="livesum",
    )
    return up, connections


async def _ping_forever(pool: Pool, up: Any) -> None:
    while True:
        try:
            await pool.ping()
            up.set(1)
        except DatabaseError:
            up.set(0)
        await asyncio.sleep(PING_INTERVAL)


def text() -> bytes:
    """Return the sum of all workers in Prometheus' text format. Reads files, so it blocks.

    Raises ConfigError if the setting ``metrics`` is off.
    """
    folder = os.environ.get(FOLDER)
    if not (_locks and folder):
        raise ConfigError("there are no metrics: set api_hour.metrics to true")
    return collect(folder)


def collect(folder: str) -> bytes:
    """Return the sum of the files in ``folder``, in the same format."""
    from prometheus_client import generate_latest

    _forget_dead(Path(folder))
    return generate_latest(_Sum(folder))


class _Sum:
    """A registry for prometheus-client: the sum of the files in a folder."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)

    def collect(self) -> Any:
        """Return the metrics; a file that is being created is empty, and is skipped."""
        from prometheus_client.multiprocess import MultiProcessCollector

        for _ in range(MAX_ATTEMPTS):
            files = [str(path) for path in self._folder.glob("*.db") if _size(path)]
            with suppress(struct.error):  # a file was removed and created again meanwhile
                return MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
        raise RuntimeError(f"there is a broken file in {self._folder}")


def _size(path: Path) -> int:
    with suppress(FileNotFoundError):  # the gauges of a dead worker
        return path.stat().st_size
    return 0


def _take_number(folder: Path) -> int:
    """Lock the lowest free number until this process exits."""
    for number in itertools.count():
        lock = (folder / f"{number}.lock").open("w")
        if _locked(lock):
            _locks.append(lock)
            _remove_gauges(folder, number)
            return number
        lock.close()
    raise AssertionError


def _forget_dead(folder: Path) -> None:
    """Remove the gauges of dead workers that count living ones only."""
    for path in folder.glob("*.lock"):
        with path.open("w") as lock:
            if _locked(lock):
                _remove_gauges(folder, int(path.stem))


def _remove_gauges(folder: Path, number: int) -> None:
    for path in folder.glob(f"gauge_live*_{number}.db"):
        path.unlink(missing_ok=True)


def _locked(lock: Any) -> bool:
    with suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False
