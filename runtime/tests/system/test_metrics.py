"""Metrics: no count is lost, counted twice or goes back, whatever happens to the workers."""

import asyncio
import functools
import http.client
import multiprocessing
import os
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import prometheus_client.multiprocess  # noqa: F401 - nobody may not read it from this environment
import pytest
from prometheus_client import Counter, Gauge

from api_hour import metrics
from api_hour.exceptions import ConfigError, DatabaseUnavailable
from api_hour.logs import observers
from api_hour.logs.rate_limit import MOST
from api_hour.metrics import sample_files
from runtime.tests.examples import count
from testkit.processes import Daemon
from testkit.waiting import until

FORK = multiprocessing.get_context("fork")
LIVES = count(300)  # workers, one after the other
AT_ONCE = 4
NOBODY = 65534
INCREMENTS = 5  # of each worker

PROJECT = """\
import asyncio
import subprocess
import sys

from aiohttp import web
from prometheus_client import Counter

import api_hour

OWN = Counter("own", "A counter of the project's own", ["kind"])


async def index(request):
    OWN.labels("index").inc()
    return api_hour.JSON({})


async def fail(request):
    raise ValueError("a fault that any client may ask for")


async def late(request):
    await asyncio.sleep(0)
    return api_hour.JSON({}, status=201)


CHILD = "import os; print(*(name for name in os.environ if name.startswith((%r, %r))))"


async def environment(request):
    command = [sys.executable, "-c", CHILD % ("API_HOUR_METRICS", "PROMETHEUS")]
    return web.Response(text=subprocess.run(command, capture_output=True, text=True).stdout)


class Container(api_hour.Container):
    def servers(self):
        app = web.Application()
        app.router.add_get("/environment", environment)
        app.router.add_get("/", index)
        app.router.add_get("/fail", fail)
        app.router.add_post("/late/{name}", late)
        app.router.add_get("/metrics", api_hour.show_metrics)
        return {"http": api_hour.HTTPServer(app)}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a folder for the metrics of the processes that a test forks."""
    monkeypatch.setattr(metrics, "_folder", str(tmp_path))
    yield tmp_path
    assert metrics._files is None, "the test itself has started to count"


def value(text: str | bytes, name: str) -> float:
    """Return a sample by its name and labels."""
    plain = text.decode() if isinstance(text, bytes) else text
    found = re.findall(rf"^{re.escape(name)} (\S+)$", plain, re.MULTILINE)
    assert len(found) < 2
    return float(found[0]) if found else 0.0


def live(number: int, born: Event) -> None:
    """Count as a worker does, and exit; every tenth process is killed after its last sample."""
    metrics.start_counting("test")
    counter = Counter("things", "Things")
    Gauge("alive", "Workers", multiprocess_mode="livesum").set(1)
    born.set()
    for _ in range(INCREMENTS):
        counter.inc()
    metrics.sample()
    if number % 10 == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(0)


def test_hundreds_of_lives_are_counted_while_they_are_looked_at(folder: Path) -> None:
    over, seen, faults = threading.Event(), [0.0], []

    def scrape() -> None:
        while not over.is_set():
            try:
                seen.append(value(metrics.collect(str(folder)), "things_total"))
            except Exception as error:
                faults.append(error)
                return

    scraper = threading.Thread(target=scrape)
    scraper.start()
    try:
        workers: list[multiprocessing.process.BaseProcess] = []
        for number in range(LIVES):
            if len(workers) == AT_ONCE:
                workers.pop(0).join()
            workers.append(FORK.Process(target=live, args=(number, FORK.Event())))
            workers[-1].start()
        for worker in workers:
            worker.join()
    finally:
        over.set()
        scraper.join()
    assert faults == []
    assert seen == sorted(seen), "a count went back"
    assert len(seen) > 10
    text = metrics.collect(str(folder))
    assert value(text, "things_total") == LIVES * INCREMENTS
    assert value(text, 'worker_starts_total{reason="test"}') == LIVES
    assert value(text, "alive") == 0
    # A child that is forked during a scrape holds the lock that was taken then.
    assert len(list(folder.glob("*.lock"))) <= 4 * AT_ONCE


def test_gauges_count_the_living_only(folder: Path) -> None:
    def stay(born: Event) -> None:
        metrics.start_counting("test")
        Gauge("alive", "Workers", multiprocess_mode="livesum").set(1)
        metrics.sample()
        born.set()
        signal.pause()

    births = [FORK.Event() for _ in range(3)]
    workers = [FORK.Process(target=stay, args=(born,)) for born in births]
    for worker, born in zip(workers, births, strict=True):
        worker.start()
        assert born.wait(30)
    assert value(metrics.collect(str(folder)), "alive") == 3
    workers[1].kill()
    workers[1].join()
    assert value(metrics.collect(str(folder)), "alive") == 2
    for worker in workers:
        worker.kill()
        worker.join()
    assert value(metrics.collect(str(folder)), "alive") == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
def test_a_master_that_is_root_shares_the_folder_with_workers_of_another_user() -> None:
    def count_as_nobody() -> None:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        metrics.start_counting("test")
        shown = metrics.text()
        assert value(shown, 'worker_starts_total{reason="test"}') == 1
        assert value(shown, 'process_open_fds{process="master"}') > 0

    def be_the_master() -> None:
        os.umask(0o077)
        folder = Path(metrics.open_folder(NOBODY, NOBODY))
        for number in range(2):
            metrics.sample()
            worker = FORK.Process(target=count_as_nobody)
            worker.start()
            worker.join()
            assert worker.exitcode == 0
            assert folder.stat().st_uid == NOBODY
            shutil.rmtree(folder)
            if number == 0:
                metrics.sample()
                # As if every process had had the time to write to the folder made again.
                os.utime(folder / sample_files.MADE_AGAIN, (0, 0))
        metrics.remove_folder()

    master = FORK.Process(target=be_the_master)
    master.start()
    master.join()
    assert master.exitcode == 0


DEEP = 3000  # folders within each other; Python's own frames end before
LARGE = 1 << 30  # bytes, of a file without any


def as_nobody(act: Callable[[], object]) -> None:
    """Do what a worker of another user can do; fails if that fails."""

    def run() -> None:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        act()

    process = FORK.Process(target=run)
    process.start()
    process.join()
    assert process.exitcode == 0


def lay(folder: Path, name: str) -> None:
    """Replace one of the master's files by something else."""
    path = folder / name
    path.unlink(missing_ok=True)
    if name.endswith((".lock", "pipe_m0.db")):
        os.mkfifo(path)
    elif name.startswith("counter"):
        path.touch()
        os.truncate(path, LARGE)
    else:
        path.symlink_to("/etc/shadow")


def nest(folder: Path) -> None:
    os.chdir(folder)
    for _ in range(DEEP):
        os.mkdir("f")
        os.chdir("f")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
def test_workers_of_another_user_cannot_hold_up_a_master_that_is_root(tmp_path: Path) -> None:
    names = "m0.lock", "m1.lock", "pipe_m0.db", "counter_m0.db", "gauge_m0.db", "summary_m0.db"

    def be_the_master() -> None:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(30)  # a master that waits is killed
        folder = Path(metrics.open_folder(NOBODY, NOBODY))
        metrics.sample()
        for name in names:
            as_nobody(functools.partial(lay, folder, name))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        metrics.sample()
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + (LARGE >> 12)
        assert (folder / "counter_m0.db").stat().st_size == LARGE
        assert observers.counts["metrics"]
        assert not sample_files.is_abandoned(os.open(folder, os.O_RDONLY))
        as_nobody(functools.partial(nest, folder))
        metrics.remove_folder()
        subprocess.run(["rm", "-rf", folder], check=True)

    master = FORK.Process(target=be_the_master)
    master.start()
    master.join()
    assert master.exitcode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
def test_a_folder_made_again_is_given_away_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    precious, folder = tmp_path / "precious", tmp_path / "metrics"
    precious.mkdir()

    def swap(path: str, mode: int) -> None:
        """Do what the owner of the folder above can do at just that moment."""
        folder.symlink_to(precious)

    monkeypatch.setattr(os, "makedirs", swap)
    with pytest.raises(OSError, match=r"Not a directory|symbolic links"):
        sample_files.make(str(folder), NOBODY, NOBODY)
    assert precious.stat().st_uid == 0


def with_key(key: bytes) -> bytes:
    """Return a file of samples with one sample."""
    length = struct.pack("i", len(key))
    return struct.pack("i4x", 8 + 4 + len(key) + 8 + 16) + length + key + bytes(64)


BROKEN = {
    "noise": b"\x7f" * 64,
    "endless": struct.pack("i4x", LARGE),
    "endless key": struct.pack("i4xi", 100, LARGE) + bytes(100),
    "no text": with_key(b"\xff"),
    "no JSON": with_key(b"["),
    "no key": with_key(b"7"),
    "short key": with_key(b"[1]"),
    "odd labels": with_key(b'["a", "b", 7, "d"]'),
    "deep": with_key(b"[" * 20_000),
}


@pytest.mark.parametrize("name", [*BROKEN, "pipe", "folder", "link"])
def test_a_broken_file_of_a_worker_fails_the_scrape_and_costs_no_memory(
    folder: Path, name: str
) -> None:
    path = folder / "counter_7.db"
    if name in BROKEN:
        path.write_bytes(BROKEN[name])
    if name == "endless":
        os.truncate(path, LARGE)
    elif name == "pipe":
        os.mkfifo(path)
    elif name == "folder":
        path.mkdir()
    elif name == "link":
        path.symlink_to("/etc/passwd")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(OSError, match=r"broken file|not a file of samples"):
        metrics.collect(str(folder))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + (LARGE >> 11)


@pytest.fixture
def counting(project: Path, run: Callable[..., Daemon]) -> Daemon:
    """Return a daemon of two workers that counts."""
    (project / "hello.py").write_text(PROJECT)
    daemon = run("hello:Container", "--metrics", "--workers=2")
    daemon.ready(2)
    return daemon


def fetch(daemon: Daemon, path: str = "/metrics", method: str = "GET") -> str:
    """Return the answer of one request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port(), timeout=30)
    try:
        connection.request(method, path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def shows(daemon: Daemon, **samples: float) -> Callable[[], bool]:
    """Return a condition: the metrics have these samples; they lag by a second."""

    def condition() -> bool:
        text = fetch(daemon)
        return all(value(text, name) == number for name, number in samples.items())

    return condition


def test_requests_are_counted_by_route_method_and_status(counting: Daemon) -> None:
    for _ in range(5):
        fetch(counting, "/")
        fetch(counting, "/late/x", "POST")
        fetch(counting, "/late/y", "POST")
        fetch(counting, "/nowhere")
        fetch(counting, "/", "PROPFIND")
    labels = {
        'method="GET",route="/",status="200"': 5,
        'method="POST",route="/late/{name}",status="201"': 10,
        'method="GET",route="",status="404"': 5,
        'method="other",route="",status="405"': 5,
    }
    samples = {f"http_requests_total{{{label}}}": number for label, number in labels.items()}
    samples['own_total{kind="index"}'] = 5
    samples['http_request_duration_seconds_count{method="POST",route="/late/{name}"}'] = 10
    until(shows(counting, **samples), "the counts are not these")
    text = fetch(counting)
    assert value(text, 'worker_starts_total{reason="start"}') == 2
    assert value(text, "event_loop_lag_seconds_count") > 0
    with socket.create_connection(("127.0.0.1", counting.port())):
        open_ = {'http_connections{listener="http"}': 2.0}  # this one, and the one that asks
        until(shows(counting, **open_), "the open connections are not counted")


def test_what_a_client_has_logged_again_and_again_is_bounded_and_counted(
    counting: Daemon,
) -> None:
    for _ in range(50):
        fetch(counting, "/fail")

    def all_are_counted() -> bool:
        limited = value(fetch(counting), 'log_records_limited_total{logger="aiohttp.server"}')
        assert counting.output.count("Traceback") <= 2 * MOST
        whole = counting.output.count("Error handling request") - limited
        return whole >= MOST and whole + limited == 50

    until(all_are_counted, "an error is not logged, or its traceback neither logged nor counted")


def test_a_program_that_a_worker_starts_does_not_inherit_the_folder(counting: Daemon) -> None:
    assert fetch(counting, "/environment").split() == []


def test_who_counts_never_waits_for_a_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def count_while_a_disk_is_slow(done: Event) -> None:
        metrics.start_counting("test")
        counter = Counter("things", "Things")
        writing, goes_on = threading.Event(), threading.Event()

        def write(*_: object) -> None:
            writing.set()
            assert goes_on.wait(30)

        monkeypatch.setattr(sample_files, "_write", write)
        saving = threading.Thread(target=metrics.sample)
        saving.start()
        assert writing.wait(30)
        counter.inc()
        done.set()
        goes_on.set()
        saving.join()

    done = FORK.Event()
    worker = FORK.Process(target=count_while_a_disk_is_slow, args=(done,))
    worker.start()
    assert done.wait(30)
    worker.join()


def test_counts_survive_reloads_deaths_and_an_upgrade(counting: Daemon) -> None:
    sent = 0

    def ask() -> None:
        nonlocal sent
        for _ in range(10):
            fetch(counting, "/")
            sent += 1

    def counted() -> None:
        counts = {'own_total{kind="index"}': sent}
        counts['http_requests_total{method="GET",route="/",status="200"}'] = sent
        until(shows(counting, **counts), "a count is wrong")

    for _ in range(2):
        ask()
        mark = counting.mark()
        counting.send(signal.SIGHUP)
        ask()
        counting.ready(2, after=mark)
        counted()
    ask()
    counted()
    mark = counting.mark()
    os.kill(counting.workers()[-1], signal.SIGKILL)
    counting.ready(after=mark)
    counted()
    reasons = {'worker_starts_total{reason="reload"}': 4, 'worker_starts_total{reason="death"}': 1}
    until(shows(counting, **reasons), "the reasons are not these")
    mark = counting.mark()
    counting.send(signal.SIGUSR2)
    counting.ready(2, after=mark)
    ask()
    counted()
    counting.send(signal.SIGTERM)
    ask()
    counting.process.wait(60)
    counted()


def test_the_folder_goes_with_the_daemon_or_by_the_next_start(
    project: Path, run: Callable[..., Daemon]
) -> None:
    (project / "hello.py").write_text(PROJECT)
    temporary = project / "tmp"
    temporary.mkdir()

    def folders() -> list[Path]:
        return list(temporary.glob("api_hour-metrics-*"))

    def start() -> Daemon:
        return run("hello:Container", "--metrics", TMPDIR=str(temporary)).ready()

    killed = start()
    [left] = folders()
    assert (left / "counter_0.db").exists()
    os.kill(killed.pid, signal.SIGSTOP)
    first = start()
    [used] = set(folders()) - {left}  # that of a living daemon stays, even of one that is stopped
    killed.send_all(signal.SIGKILL)
    killed.wait()
    second = start()
    assert left not in folders()
    assert used in folders()
    for daemon in (first, second):
        assert daemon.stop() == 0
    assert not folders()


def test_without_the_setting_the_endpoint_says_so_and_a_reload_brings_it(
    project: Path, run: Callable[..., Daemon]
) -> None:
    (project / "hello.py").write_text(PROJECT)
    (project / "tmp").mkdir()
    daemon = run("hello:Container", TMPDIR=str(project / "tmp")).ready()
    assert "there are no metrics" in fetch(daemon)
    daemon.wait_for("there are no metrics: set api_hour.metrics to true")

    settings = project / "gunicorn.conf.py"
    broken = "def post_fork(master, worker):\n    raise OSError('not yet')\n"
    for more, outcome in {broken: "Reload failed.*not yet", "": "Reloaded: "}.items():
        mark = daemon.mark()
        settings.write_text("metrics = True\n" + more)
        daemon.send(signal.SIGHUP)
        daemon.wait_for(outcome, after=mark)
    once = {'worker_starts_total{reason="reload"}': 1, 'worker_starts_total{reason="start"}': 0}
    until(shows(daemon, **once), "the new worker does not count")
    until(lambda: value(fetch(daemon), 'process_open_fds{process="master"}') > 0, "no master")
    assert daemon.stop() == 0
    assert not list((project / "tmp").iterdir())


def test_without_the_package_the_start_says_how_to_get_it(
    project: Path, run: Callable[..., Daemon]
) -> None:
    hidden = project / "hidden"
    hidden.mkdir()
    code = "import importlib.util as util; find = util.find_spec\n"
    code += "util.find_spec = lambda name: name != 'prometheus_client' and find(name) or None\n"
    (hidden / "sitecustomize.py").write_text(code)
    daemon = run("hello:Container", "--metrics", PYTHONPATH=str(hidden))
    assert daemon.wait() == 1
    assert "metrics need the package prometheus-client: pip install" in daemon.output


class Pool:
    """An engine whose state a test sets."""

    size, freesize, waiting, up = 5, 2, 0, True

    async def ping(self) -> None:
        if not self.up:
            raise DatabaseUnavailable("away")


def test_an_engine_is_shown_while_it_is_open(folder: Path) -> None:
    def watch(pipe: "Connection[Any, Any]") -> None:
        async def scenario() -> None:
            pool = Pool()
            async with metrics.observed("postgresql", pool):
                await asyncio.sleep(0)
                metrics.sample()
                pipe.send(metrics.text())
                pool.size, pool.freesize, pool.waiting = 7, 0, 3
                metrics.sample()
                pipe.send(metrics.text())

        metrics.start_counting("test")
        asyncio.run(scenario())
        os._exit(0)

    ours, theirs = multiprocessing.Pipe()
    worker = FORK.Process(target=watch, args=(theirs,))
    worker.start()
    first, second = ours.recv(), ours.recv()
    worker.join()
    state = 'engine_connections{{engine="postgresql",state="{}"}}'.format
    assert value(first, 'engine_up{engine="postgresql"}') == 1
    assert [value(first, state(name)) for name in ("used", "free", "waiting")] == [3, 2, 0]
    assert [value(second, state(name)) for name in ("used", "free", "waiting")] == [7, 0, 3]


def test_an_engine_may_be_observed_without_metrics() -> None:
    async def scenario() -> None:
        async with metrics.observed("postgresql", Pool()):
            await asyncio.sleep(0)

    asyncio.run(scenario())
    with pytest.raises(ConfigError, match=r"set api_hour\.metrics to true"):
        metrics.text()
