"""Metrics: each worker counts in files of one folder, and a scrape adds them all up.

prometheus-client writes and reads the files. Their names hold a number: a worker has the lowest
free one as long as it lives, and goes on with the counts of the worker before. So no count goes
back when a worker leaves, and there are no more files than workers that ran at once.
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

from api_hour.exceptions import ConfigError, DatabaseError

FOLDER = "API_HOUR_METRICS"  # in the environment of the master's successor, too
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LOOKS = 100
PING = 5.0  # seconds between two looks at an engine
LAG = "How late the event loop is, at the worst of the workers"
_lag: list[Callable[[float], None]] = []
_samplers: list[Callable[[], None]] = []
_held: list[Any] = []  # the lock of this process, until it ends


class Pool(Protocol):
    """Be an engine that can be asked how it is; the three numbers are of connections."""

    @property
    def size(self) -> int:
        """Return how many are open."""

    @property
    def freesize(self) -> int:
        """Return how many nobody uses."""

    @property
    def waiting(self) -> int:
        """Return how many tasks wait for one."""

    async def ping(self) -> None:
        """Return when it answers; raise api_hour.DatabaseError when it does not."""


def open_folder(uid: int, gid: int) -> str:
    """Return the folder of the service, made for ``uid`` and ``gid`` if there is none yet."""
    if folder := os.environ.get(FOLDER):
        return folder
    if util.find_spec("prometheus_client") is None:
        cure = "pip install 'api-hour-runtime[metrics]'"
        raise ConfigError(f"metrics need the package prometheus-client: {cure}")
    where = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0] or None
    os.environ[FOLDER] = folder = tempfile.mkdtemp(prefix="api_hour-metrics-", dir=where)
    if (uid, gid) != (os.geteuid(), os.getegid()):
        os.chown(folder, uid, gid)
    return folder


def hand_over() -> dict[str, str]:
    """Return what tells the master's successor of the folder."""
    return {FOLDER: os.environ[FOLDER]} if FOLDER in os.environ else {}


def remove_folder() -> None:
    """Remove the folder, when the last worker is gone."""
    if folder := os.environ.pop(FOLDER, None):
        shutil.rmtree(folder, ignore_errors=True)


def start_counting(reason: str) -> None:
    """Count in this process from now on; before the project, with its own metrics, is imported."""
    folder = os.environ[FOLDER]
    number = _take_number(Path(folder))
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
    from prometheus_client import Counter, Gauge, values

    values.ValueClass = values.MultiProcessValue(lambda: number)  # type: ignore[no-untyped-call]
    starts = Counter("worker_starts", "Workers started, by the reason", ["reason"])
    starts.labels(reason).inc()
    _lag.append(Gauge("event_loop_lag_seconds", LAG, multiprocess_mode="livemax").set)


def on_sample(sample: Callable[[], None]) -> None:
    """Call ``sample`` about once a second, in the event loop, and when the worker leaves."""
    _samplers.append(sample)


def sample(late: float = 0.0) -> None:
    """Take every sample; the event loop is ``late`` by that many seconds."""
    for take in _lag:
        take(late)
    for one in _samplers:
        one()


@asynccontextmanager
async def observed(name: str, pool: Pool) -> AsyncIterator[None]:
    """Show in the metrics how the engine ``name`` is, for as long as the context lasts."""
    if not _held:
        yield
        return
    up, connections = _engine_gauges()
    states = {state: connections.labels(name, state) for state in ("used", "free", "waiting")}

    def numbers() -> None:
        states["used"].set(pool.size - pool.freesize)
        states["free"].set(pool.freesize)
        states["waiting"].set(pool.waiting)

    on_sample(numbers)
    asking = asyncio.create_task(_ask(pool, up.labels(name)))
    try:
        yield
    finally:
        asking.cancel()
        _samplers.remove(numbers)


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


async def _ask(pool: Pool, up: Any) -> None:
    while True:
        try:
            await pool.ping()
            up.set(1)
        except DatabaseError:
            up.set(0)
        await asyncio.sleep(PING)


def text() -> bytes:
    """Return the sum of all workers in Prometheus' text format; it reads files, and so blocks.

    Raises ConfigError where the setting ``metrics`` is off.
    """
    folder = os.environ.get(FOLDER)
    if not (_held and folder):
        raise ConfigError("there are no metrics: set api_hour.metrics to true")
    return collect(folder)


def collect(folder: str) -> bytes:
    """Return the sum of the files of ``folder``."""
    from prometheus_client import generate_latest

    _forget_dead(Path(folder))
    return generate_latest(_Sum(folder))


class _Sum:
    """Be a registry of prometheus-client that holds the sum of the files of a folder."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)

    def collect(self) -> Any:
        """Return the metrics; a file that is being made is empty, and holds nothing yet."""
        from prometheus_client.multiprocess import MultiProcessCollector

        for _ in range(LOOKS):
            files = [str(path) for path in self._folder.glob("*.db") if _size(path)]
            with suppress(struct.error):  # one of them was removed and made again since
                return MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
        raise RuntimeError(f"there is a broken file in {self._folder}")


def _size(path: Path) -> int:
    with suppress(FileNotFoundError):  # the gauges of a dead worker
        return path.stat().st_size
    return 0


def _take_number(folder: Path) -> int:
    """Lock the lowest free number for the life of this process."""
    for number in itertools.count():
        lock = (folder / f"{number}.lock").open("w")
        if _locked(lock):
            _held.append(lock)
            _remove_gauges(folder, number)
            return number
        lock.close()
    raise AssertionError


def _forget_dead(folder: Path) -> None:
    """Remove what dead workers said of themselves: gauges that count the living only."""
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
