"""Metrics: each process keeps its samples in files of one folder, and a scrape adds them up.

``sample_files`` has the files. Here are what every daemon counts (its processes, event loops,
engines and the faults of observers), the hook that brings prometheus-client's metrics into the
files, and the scrape. A scrape either shows everything or fails, as ``up`` in Prometheus then says:
an answer without a part of the counts would look like a service without work.
"""

import asyncio
import errno
import logging
import os
import platform
import resource
import shutil
import stat
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from functools import cache, partial
from importlib import metadata, util
from pathlib import Path
from typing import Any, Protocol

from api_hour.exceptions import INSTALL, ConfigError, DatabaseError, EngineUnavailable
from api_hour.logs import observers, rate_limit
from api_hour.metrics import sample_files
from api_hour.metrics.sample_files import Extra, Sample, SampleFiles, make_key

FOLDER = "API_HOUR_METRICS"  # environment variable of the master's successor
PREFIX = "api_hour-metrics-"  # of the folder's name
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MAX_ATTEMPTS = 100  # to read the files while others create and remove some
MAX_REASON = 200  # characters of what is wrong with one of them
PING_INTERVAL = 5.0  # seconds between two pings of an engine
LAG_CHECK = 0.1  # seconds between two looks at the event loop's lag
LAG_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds
FAULTS_HELP = "Faults of logs, metrics and other observers"
LIMITED_HELP = "Records that were left out of the log, because too many were like them"
LAG_HELP = "Seconds that the event loops of the workers were late"
CPU_HELP = "CPU seconds of a process, in user and system mode"
PROCESS_CHECK = 5.0  # seconds between two looks at a process's memory and descriptors
MASTER_PAUSE = 1.0  # seconds between two samples of the master
OBSERVERS = "log", "metrics"  # shown from the start, so that the first fault is an increase
NOT_SHOWN = (
    "The collector %s is not shown in the metrics, which are the sum of several processes: set a "
    "Gauge in a function that api_hour.metrics.on_sample() is given"
)

logger = logging.getLogger(__name__)

_folder = ""  # of this daemon
_files: SampleFiles | None = None  # of this process; None while it does not count
_samplers: list[Callable[[], None]] = []
_next_of_master = 0.0  # when the master takes samples again, in the monotonic clock


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
        """Return once the engine answers; raise api_hour.EngineUnavailable if it does not."""


# In the master


def open_folder(uid: int, gid: int) -> str:
    """Return the folder of this daemon; create it for ``uid`` and ``gid`` if there is none.

    A folder that cannot be created is tried again with every sample. The master counts from here
    on. Raises ConfigError without prometheus-client, which the workers need.
    """
    if util.find_spec("prometheus_client") is None:
        raise ConfigError(f"metrics need the package prometheus-client: {INSTALL['metrics']}")
    global _folder
    if _files is None:
        _folder = _folder or os.environ.pop(FOLDER, "") or _make_folder(uid, gid)
        files = SampleFiles(_folder, uid, gid, prefix="m")
        _start(files, _Extras(files, process="master"))
    return _folder


def _make_folder(uid: int, gid: int) -> str:
    where = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0] or None
    try:
        _remove_abandoned(where or tempfile.gettempdir(), uid)
        folder = tempfile.mkdtemp(prefix=PREFIX, dir=where)
        sample_files.give(folder, uid, gid)
    except OSError as error:
        observers.failed("metrics", error)
        where = where or os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 - of a random name, 0700
        folder = os.path.join(where, f"{PREFIX}{os.urandom(8).hex()}")
    return folder


def _remove_abandoned(parent: str, uid: int) -> None:
    """Remove the folders of this user's daemons that were killed."""
    for path in Path(parent).glob(f"{PREFIX}*"):
        with suppress(OSError):  # another user's, or another one removes it, too
            folder = sample_files.open_folder(str(path), uid)
            try:
                abandoned = sample_files.is_abandoned(folder)
            finally:
                os.close(folder)
            if abandoned:
                _remove(str(path))


def _remove(folder: str) -> None:
    """Remove a folder; what others have put there may stay."""
    with suppress(RecursionError):  # folders within folders
        shutil.rmtree(folder, ignore_errors=True)


def sample_master() -> None:
    """Take the master's samples; it calls this whenever it wakes up."""
    global _next_of_master
    if _files is not None and time.monotonic() >= _next_of_master:
        _next_of_master = time.monotonic() + MASTER_PAUSE
        sample()


def hand_over() -> dict[str, str]:
    """Return the environment that tells the master's successor where the folder is."""
    return {FOLDER: _folder} if _folder else {}


def remove_folder() -> None:
    """Remove the folder; called when the last worker has exited."""
    global _folder
    _stop()
    if _folder:
        _remove(_folder)
    _folder = ""


# In a worker


def start_counting(reason: str) -> None:
    """Count in this process; called before the project, with its own metrics, is imported."""
    files = SampleFiles(_folder, os.geteuid(), os.getegid())
    # Where libraries look for it; a program that the project starts, and that counts as well, does
    # not inherit it: its files would stay for ever.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = files.folder
    os.unsetenv("PROMETHEUS_MULTIPROC_DIR")
    from prometheus_client import Histogram, values

    values.ValueClass = _value_class(files)
    _start(files, _Extras(files))
    _counter(files, "worker_starts", "Workers started, by reason", reason=reason).add(1)
    lag = Histogram("event_loop_lag_seconds", LAG_HELP, buckets=LAG_BUCKETS)
    on_sample(_LagWatch(lag.observe).start)
    sample()


def _value_class(files: SampleFiles) -> type[Sample]:
    """Return what prometheus-client keeps a number of a metric in."""

    class Value(Sample):
        _multiprocess = True
        inc = Sample.add

        def __init__(
            self,
            kind: str,
            metric: str,
            name: str,
            label_names: Iterable[str],
            label_values: Iterable[str],
            help_text: str,
            multiprocess_mode: str = "",
            **_: object,
        ) -> None:
            labels = dict(zip(label_names, label_values, strict=True))
            kind = f"{kind}_{multiprocess_mode}" if kind == "gauge" else kind
            super().__init__(files, kind, make_key(metric, name, labels, help_text))

        def set_exemplar(self, exemplar: object) -> None:
            """Do nothing: the text format has no exemplars."""

        def get_exemplar(self) -> None:
            """Return None."""

    return Value


class _LagWatch:
    """Looks often how late the event loop is, so that a short block is seen as well."""

    def __init__(self, observe: Callable[[float], None]) -> None:
        self._observe = observe
        self._started = False

    def start(self) -> None:
        """Start in the running loop; called with every sample, also before there is a loop."""
        if not self._started:
            with suppress(RuntimeError):
                loop = asyncio.get_running_loop()
                self._started = True
                self._check(loop, loop.time())

    def _check(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        now = loop.time()
        self._observe(max(0.0, now - due))
        loop.call_at(now + LAG_CHECK, self._check, loop, now + LAG_CHECK)


# In both


def _start(files: SampleFiles, extras: "_Extras") -> None:
    global _files
    _files = files
    _try(files.save)  # takes a number, and with it the counts of the process that had it before
    faults = partial(_counter, files, "observer_faults", FAULTS_HELP)
    limited = partial(_counter, files, "log_records_limited", LIMITED_HELP)
    for observer in OBSERVERS:
        faults(observer=observer)
    on_sample(_Counts(observers.counts, lambda name: faults(observer=name)).sample)
    on_sample(_Counts(rate_limit.counts, lambda name: limited(logger=name)).sample)
    on_sample(extras.sample)


def _stop() -> None:
    """Count no more: the daemon ends, or this is a child, which is another process."""
    global _files
    if _files is not None:
        _files.close()
    _files = None
    _samplers.clear()


os.register_at_fork(after_in_child=_stop)


def on_sample(sample: Callable[[], None]) -> None:
    """Call ``sample`` about once a second, in the event loop, and when the worker exits."""
    _samplers.append(sample)


def sample() -> None:
    """Take every sample, and write all of them; never raises."""
    for take in list(_samplers):
        _try(take)
    if _files is not None:
        _try(_files.save)


def _try(observe: Callable[[], object]) -> None:
    """Call what may raise anything: it may be the project's, or meet a full disk."""
    try:
        observe()
    except BaseException as error:
        observers.failed("metrics", error)


def _counter(files: SampleFiles, name: str, help_text: str, **labels: str) -> Sample:
    return Sample(files, "counter", make_key(name, f"{name}_total", labels, help_text))


class _Counts:
    """Numbers that this process counts by name, as counters."""

    def __init__(self, counts: dict[str, int], counter: Callable[[str], Sample]) -> None:
        self._counts, self._counter = counts, counter
        self._shown: dict[str, int] = {}

    def sample(self) -> None:
        """Add what was counted since the last sample."""
        for name, count in list(self._counts.items()):
            self._counter(name).add(count - self._shown.get(name, 0))
            self._shown[name] = count


class _Extras:
    """What a process finds out about itself; a worker's label is its number.

    ``process`` is the label of another process.
    """

    def __init__(self, files: SampleFiles, process: str = "") -> None:
        self._files = files
        self._process = process
        self._start_time = time.time()
        self._cpu_seconds = 0.0
        self._next_look = 0.0
        self._looked: list[Extra] = []
        self._registry = None if process else _Registry()
        self._build = Extra("api_hour_build_info", "Versions in use", _versions(), 1.0)

    def sample(self) -> None:
        """Replace what was found out before."""
        label = {"process": self._process or self._files.number}
        used = time.process_time()
        cpu = _counter(self._files, "process_cpu_seconds", CPU_HELP, **label)
        cpu.add(used - self._cpu_seconds)
        self._cpu_seconds = used
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + PROCESS_CHECK
            self._looked = list(self._look(label))
        if self._registry is None:
            self._files.set_extra(self._looked)
        else:
            self._files.set_extra([*self._looked, self._build, *self._registry.extras()])

    def _look(self, label: dict[str, str]) -> Iterator[Extra]:
        start_help = "When a process started, in seconds since the epoch"
        yield Extra("process_start_time_seconds", start_help, label, self._start_time)
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        yield Extra("process_max_fds", "Limit of open descriptors", label, limit)
        with suppress(FileNotFoundError):  # not on Linux
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            resident = pages * resource.getpagesize()
            yield Extra("process_resident_memory_bytes", "Resident memory", label, resident)
            descriptors = len(os.listdir("/proc/self/fd")) - 1  # without the one that lists them
            yield Extra("process_open_fds", "Open descriptors", label, descriptors)


class _Registry:
    """Metrics of prometheus-client that keep no number, so that nothing writes them to the files.

    Info and Enum are shown as prometheus-client does, with 1 while any worker says so. The function
    of a Gauge is called. What other collectors yield cannot be added up: a warning says so.
    """

    def __init__(self) -> None:
        import prometheus_client
        from prometheus_client.metrics import MetricWrapperBase

        self._client, self._counting = prometheus_client, MetricWrapperBase
        own = "PROCESS_COLLECTOR", "PLATFORM_COLLECTOR", "GC_COLLECTOR"
        self._known = {id(getattr(prometheus_client, name, None)) for name in own}

    def extras(self) -> Iterator[Extra]:
        """Yield the samples of each Info and Enum, and call the function of each Gauge."""
        client = self._client
        for collector in list(client.REGISTRY._collector_to_names):
            if isinstance(collector, client.Info | client.Enum):
                for metric in collector.collect():
                    for found in metric.samples:
                        yield Extra(found.name, metric.documentation, found.labels, found.value)
            elif isinstance(collector, client.Gauge):
                for gauge in list(getattr(collector, "_metrics", {"": collector}).values()):
                    if "_child_samples" in vars(gauge):
                        _try(partial(_call_function, gauge))
            elif not isinstance(collector, self._counting) and id(collector) not in self._known:
                self._known.add(id(collector))
                logger.warning(NOT_SHOWN, type(collector).__qualname__)


def _call_function(gauge: Any) -> None:
    """Set a Gauge to what its function returns."""
    for found in gauge._child_samples():
        gauge._value.set(found.value, time.time())


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    packages = {"version": "api-hour-runtime", "gunicorn": "gunicorn", "aiohttp": "aiohttp"}
    for label, package in packages.items():
        with suppress(metadata.PackageNotFoundError):
            found[label] = metadata.version(package)
    return found


# Engines


@asynccontextmanager
async def observed(name: str, pool: Pool) -> AsyncIterator[None]:
    """Show the state of the engine ``name`` in the metrics while the context is open."""
    if _files is None:
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
        except (DatabaseError, EngineUnavailable):
            up.set(0)
        except Exception as error:  # a pool of the project's own may raise anything
            up.set(0)
            observers.failed("metrics", error)
        await asyncio.sleep(PING_INTERVAL)


# The scrape


def text() -> bytes:
    """Return the sum of all workers in Prometheus' text format. Reads files, so it blocks.

    Raises ConfigError if the setting ``metrics`` is off, and OSError while the sum would miss
    something: the folder of the files cannot be read or written, or was removed just now.
    """
    files = _files
    if files is None:
        raise ConfigError("there are no metrics: set api_hour.metrics to true")
    files.save()
    collected = collect(files.folder)
    if not files.is_in_place():
        raise FileNotFoundError(errno.ENOENT, "was removed during the scrape", files.folder)
    return collected


def collect(folder: str) -> bytes:
    """Return the sum of the files in ``folder``, in the same format; raises OSError."""
    from prometheus_client import generate_latest

    opened = sample_files.open_folder(folder, os.geteuid())
    try:
        if sample_files.is_settling(opened):
            raise BlockingIOError(errno.EAGAIN, "was removed, and is being filled again", folder)
        sample_files.forget_dead(opened)
    finally:
        os.close(opened)
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
            try:
                return MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
            except Exception as error:  # whatever another process has written, or is writing now
                reason = observers.describe(error)[:MAX_REASON]
        raise OSError(errno.EIO, f"has a broken file: {reason}", str(self._folder))


def _size(path: Path) -> int:
    with suppress(FileNotFoundError):  # the gauges of a dead worker
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > sample_files.MAX_FILE:
            raise OSError(errno.EIO, "is not a file of samples, or too large", str(path))
        return status.st_size
    return 0
