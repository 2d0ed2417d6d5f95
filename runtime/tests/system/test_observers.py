"""What only observes may fail at any moment and in any way: every answer goes out all the same."""

import http.client
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from api_hour.logs import observers
from testkit.ports import accepts, free_port
from testkit.processes import Daemon
from testkit.waiting import until

Run = Callable[..., Daemon]

PROJECT = """\
import logging
import time

from aiohttp import web
from prometheus_client import REGISTRY, Counter, Enum, Gauge, Info

import api_hour
from api_hour import metrics

log = logging.getLogger("hello")
OWN = Counter("own", "A counter of the project's own")
INFO = Info("release", "The release")
INFO.info({"commit": "c0ffee"})
STATE = Enum("state", "The state", states=["cold", "warm"])
STATE.state("warm")
COMPUTED = Gauge("computed", "A function", multiprocess_mode="livesum")
COMPUTED.set_function(lambda: 7)
BROKEN = Gauge("broken", "A function that raises", multiprocess_mode="livesum")
BROKEN.set_function(lambda: 1 / 0)


class Collector:
    def collect(self):
        return []


class Pool:
    size = freesize = 1

    @property
    def waiting(self):
        raise SystemExit("no such number")

    async def ping(self):
        raise ValueError("no ping")


def sampler():
    raise ValueError("no sample")


REGISTRY.register(Collector())
metrics.on_sample(sampler)


async def index(request):
    OWN.inc()
    log.info("an endpoint's line")
    logging.getLogger("hello.filtered").info("a line that a filter should have cleaned")
    return api_hour.JSON({})


async def fail(request):
    raise ValueError("as it should")


async def lines(request):
    for number in range(int(request.query["n"])):
        log.warning("line %s of many, which is about as long as one of an access log is", number)
    return api_hour.JSON({})


async def block(request):
    time.sleep(1.2)
    return api_hour.JSON({})


class Container(api_hour.Container):
    @api_hour.asynccontextmanager
    async def engines(self):
        async with metrics.observed("odd", Pool()):
            yield

    def servers(self):
        app = web.Application()
        for path, endpoint in {"/": index, "/fail": fail, "/lines": lines, "/block": block}.items():
            app.router.add_get(path, endpoint)
        app.router.add_get("/metrics", api_hour.show_metrics)
        return {"http": api_hour.HTTPServer(app)}
""".replace("    @api_hour.asynccontextmanager", "    @asynccontextmanager").replace(
    "import time\n", "import time\nfrom contextlib import asynccontextmanager\n"
)


FAULT_COUNT = 'observer_faults_total{observer="metrics"}'


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return the folder of a project in which much goes wrong."""
    (tmp_path / "hello.py").write_text(PROJECT)
    return tmp_path


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """Return a file system of its own, of 128 KiB, that a test can fill and make read-only."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs mount, to fill a file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder: Path, mode: str) -> None:
    """Make a file system read-only, once no file is open for writing, or writable again."""
    command = ["mount", "-o", f"remount,{mode}", str(folder)]
    until(lambda: not subprocess.run(command, capture_output=True).returncode, "still busy")


def fill(folder: Path) -> None:
    """Write until the file system is full."""
    with (folder / "filler").open("wb", buffering=0) as file:
        for size in (4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue


def fetch(daemon: Daemon, path: str = "/") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port(), timeout=60)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def value(daemon: Daemon, name: str) -> float:
    """Return a sample by its name and labels; -1 while there are no metrics."""
    status, text = fetch(daemon, "/metrics")
    if status != 200:
        return -1.0
    found = re.findall(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found[0]) if found else 0.0


def reaches(daemon: Daemon, name: str, number: float) -> None:
    """Wait until a sample is at least ``number``; a count of ours must be no more than that."""
    until(lambda: value(daemon, name) >= number, f"{name} is not {number}")
    assert name == FAULT_COUNT or value(daemon, name) == number


def metrics_folder(parent: Path) -> Path:
    (folder,) = parent.glob("api_hour-metrics-*")
    return folder


# The metrics


class Fault:
    """What happens to the folder of the metrics, and how it ends."""

    def __init__(self, small: Path) -> None:
        self.small, self.folder = small, metrics_folder(small)

    def begin(self, name: str) -> None:
        """Let the fault begin."""
        getattr(self, name)()

    def removed(self) -> None:
        shutil.rmtree(self.folder)

    def a_file(self) -> None:
        self.removed()
        # The daemon may be quicker to make its folder again.
        until(self._put_file, "the folder cannot be replaced")

    def _put_file(self) -> bool:
        shutil.rmtree(self.folder, ignore_errors=True)
        try:
            self.folder.write_text("not a folder")
        except IsADirectoryError:
            return False
        return True

    def of_another(self) -> None:
        os.chown(self.folder, 12345, 12345)

    def open_to_all(self) -> None:
        self.folder.chmod(0o777)

    def full(self) -> None:
        fill(self.small)

    def read_only(self) -> None:
        remount(self.small, "ro")

    def end(self) -> None:
        """Let every fault end."""
        remount(self.small, "rw")
        (self.small / "filler").unlink(missing_ok=True)
        if self.folder.is_file():
            self.folder.unlink()
        if self.folder.is_dir():
            os.chown(self.folder, os.geteuid(), os.getegid())
            self.folder.chmod(0o700)


FAULTS = ["removed", "a_file", "of_another", "open_to_all", "full", "read_only"]


def test_whatever_happens_to_the_folder_no_count_is_lost(
    project: Path, small: Path, run: Run
) -> None:
    daemon = run("hello:Container", "--metrics", "--workers=2", RUNTIME_DIRECTORY=str(small)).ready(
        2
    )
    fault, sent = Fault(small), 0
    for name in FAULTS:
        faults = value(daemon, FAULT_COUNT)
        fault.begin(name)
        for _ in range(5):
            assert fetch(daemon)[0] == 200, name
            sent += 1
        status, text = fetch(daemon, "/metrics")
        if name in ("a_file", "of_another", "open_to_all", "read_only"):
            assert status == 503, f"{name}: {text}"
            assert text.startswith("The metrics are incomplete: "), name
        fault.end()
        reaches(daemon, "own_total", sent)
        reaches(daemon, FAULT_COUNT, faults + 1)
    daemon.wait_for(r"metrics failed: ")
    told = re.findall(
        r"\[(\d+)\] \[ERROR\] \[api_hour.logs.observers\] metrics failed", daemon.output
    )
    assert len(told) == len(set(told)), "a process tells it more than once a minute"
    assert daemon.stop() == 0


@pytest.mark.parametrize("name", ["removed", "a_file", "full", "read_only"])
def test_workers_boot_whatever_happened_to_the_folder(
    project: Path, small: Path, run: Run, name: str
) -> None:
    daemon = run("hello:Container", "--metrics", RUNTIME_DIRECTORY=str(small)).ready()
    fault = Fault(small)
    fault.begin(name)
    mark = daemon.mark()
    daemon.send(signal.SIGHUP)
    daemon.ready(after=mark)
    until(lambda: len(daemon.workers()) == 1, "the old worker stays")
    mark = daemon.mark()
    os.kill(daemon.workers()[0], signal.SIGKILL)
    daemon.ready(after=mark)
    assert fetch(daemon)[0] == 200
    fault.end()
    reaches(daemon, "own_total", 1)
    fault.begin(name)
    assert daemon.stop() == 0


def test_a_daemon_starts_without_a_place_for_its_metrics(project: Path, run: Run) -> None:
    (project / "file").write_text("not a folder")
    daemon = run("hello:Container", "--metrics", TMPDIR=str(project / "file")).ready()
    assert fetch(daemon)[0] == 200
    daemon.wait_for("metrics failed: ")


def test_every_metric_of_a_project_is_shown_or_named(project: Path, run: Run) -> None:
    daemon = run("hello:Container", "--metrics").ready()
    fetch(daemon, "/block")
    until(lambda: value(daemon, "event_loop_lag_seconds_count") > 0, "no lag was seen")
    _, text = fetch(daemon, "/metrics")
    samples = dict(re.findall(r"^([^# ]\S*) (\S+)$", text, re.MULTILINE))
    assert samples['release_info{commit="c0ffee"}'] == "1.0"
    assert samples['state{state="warm"}'] == "1.0"
    assert samples['state{state="cold"}'] == "0.0"
    assert samples["computed"] == "7.0"
    assert samples['engine_up{engine="odd"}'] == "0.0"
    for process in ("0", "master"):
        label = f'{{process="{process}"}}'
        assert float(samples[f"process_cpu_seconds_total{label}"]) > 0
        assert 1e6 < float(samples[f"process_resident_memory_bytes{label}"]) < 1e9
        assert float(samples[f"process_open_fds{label}"]) > 3
        assert float(samples[f"process_max_fds{label}"]) >= 256
        assert float(samples[f"process_start_time_seconds{label}"]) > 1.7e9
    assert re.search(
        r'^api_hour_build_info\{aiohttp="3\.[^"]+",gunicorn="27[^"]+",python="3\.[^"]+",'
        r'version="[^"]+"\} 1\.0$',
        text,
        re.MULTILINE,
    )
    late = float(samples["event_loop_lag_seconds_count"])
    until(
        lambda: (
            value(daemon, "event_loop_lag_seconds_count")
            > value(daemon, 'event_loop_lag_seconds_bucket{le="1.0"}')
        ),
        f"a block of 1.2 s is not among {late} looks",
    )
    daemon.wait_for("The collector Collector is not shown in the metrics")
    assert (
        value(daemon, FAULT_COUNT) >= 4
    )  # the sampler, the gauge's function, the pool's property and its ping


# The log

RAISING = """\
import logging


class Exits(logging.Handler):
    def emit(self, record):
        raise SystemExit("no handler")


class Unformatted(logging.Formatter):
    def format(self, record):
        raise MemoryError("no format")


class Refuses(logging.Filter):
    def filter(self, record):
        raise RuntimeError("no filter")
"""

LOGGING = """\
version: 1
formatters:
  broken:
    (): raising.Unformatted
filters:
  broken:
    (): raising.Refuses
handlers:
  console:
    class: api_hour.logs.NonBlockingHandler
  filtered:
    class: api_hour.logs.NonBlockingHandler
    filters: [broken]
  file:
    class: logging.handlers.WatchedFileHandler
    filename: small/app.log
  plain:
    class: logging.FileHandler
    filename: small/plain.log
  exits:
    class: raising.Exits
  unformatted:
    class: logging.FileHandler
    filename: small/unformatted.log
    formatter: broken
  behind:
    class: logging.handlers.MemoryHandler
    capacity: 1
    target: exits
loggers:
  hello.filtered:
    filters: [broken]
root:
  level: INFO
  handlers: [filtered, exits, unformatted, behind, file, plain, console]
"""


@pytest.mark.parametrize("fast", ["true", "false"])
def test_whatever_a_handler_does_every_answer_goes_out(
    project: Path, small: Path, run: Run, fast: str
) -> None:
    (project / "raising.py").write_text(RAISING)
    (project / "etc" / "hello").mkdir(parents=True)
    (project / "etc" / "hello" / "logging.yaml").write_text(LOGGING)
    daemon = run("hello:Container", "--metrics", f"--fast={fast}").ready()

    def ask(when: str) -> None:
        for path, status in {"/": 200, "/fail": 500, "/none": 404}.items():
            assert fetch(daemon, path)[0] == status, f"{path}, {when}"

    ask("with handlers, filters and formatters that raise")
    assert "an endpoint's line" in (small / "app.log").read_text()
    (small / "app.log").rename(small / "app.log.1")
    (small / "app.log").mkdir()
    ask("with a rotated file that cannot be opened again")
    daemon.send_all(signal.SIGUSR1)
    ask("after a signal to open the files again")
    (small / "app.log").rmdir()
    ask("with a file that can be opened")
    assert "an endpoint's line" in (small / "app.log").read_text()
    fill(small)
    ask("with a full disk")
    mark = daemon.mark()
    daemon.send(signal.SIGHUP)
    daemon.ready(after=mark)
    ask("after a reload on a full disk")
    assert "should have cleaned" not in (small / "app.log").read_text()
    until(lambda: value(daemon, 'observer_faults_total{observer="log"}') > 20, "not counted")
    told = re.findall(r"\[(\d+)\] \[ERROR\] \[api_hour.logs.observers\] log failed", daemon.output)
    assert len(told) == len(set(told)) >= 3, "a process tells it more than once a minute"
    assert daemon.stop() == 0


@pytest.mark.parametrize("count", [500, 2000])
def test_no_line_is_lost_that_a_living_reader_takes(project: Path, run: Run, count: int) -> None:
    daemon = run("hello:Container").ready()
    fetch(daemon, f"/lines?n={count}")
    daemon.wait_for(f"line {count - 1} of many")
    assert len(re.findall(r"line \d+ of many", daemon.output)) == count
    assert "were lost" not in daemon.output


def test_a_slow_reader_blocks_nothing_and_gets_everything(project: Path, run: Run) -> None:
    daemon = run("hello:Container").ready()
    daemon.reading.clear()
    for _ in range(3):
        assert fetch(daemon, "/lines?n=1000")[0] == 200
    daemon.reading.set()
    daemon.wait_for("line 999 of many", count=3)
    daemon.reading.clear()
    assert fetch(daemon, "/lines?n=1000")[0] == 200
    daemon.send(signal.SIGTERM)
    daemon.reading.set()
    assert daemon.wait() == 0
    assert len(re.findall(r"line \d+ of many", daemon.output)) == 4000


def test_a_reader_that_takes_nothing_costs_lines_that_are_counted(project: Path, run: Run) -> None:
    daemon = run("hello:Container", "--metrics").ready()
    daemon.reading.clear()
    for _ in range(6):
        assert fetch(daemon, "/lines?n=2000")[0] == 200
    counted = 'observer_faults_total{observer="log"}'
    until(lambda: value(daemon, counted) > 0, "the lost lines are not counted")
    daemon.reading.set()
    until(lambda: fetch(daemon) and "were lost" in daemon.output, "the loss is not told")
    lost = sum(map(int, re.findall(r"(\d+) log records were lost", daemon.output)))
    assert lost + len(re.findall(r"line \d+ of many", daemon.output)) >= 12000
    assert daemon.stop() == 0


def test_a_daemon_without_stderr_serves(
    project: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    program = 'exec "$0" -m api_hour "$@" 2>&-'
    listen = ("--listen", f"http=tcp://127.0.0.1:{port}")
    command = ("sh", "-c", program, sys.executable)
    monkeypatch.setattr(Daemon, "port", lambda *_: port)
    with Daemon(project, "hello:Container", *listen, command=command) as daemon:
        until(lambda: accepts(port), "it does not listen")
        assert fetch(daemon)[0] == 200
        assert fetch(daemon, "/fail")[0] == 500
        assert daemon.stop() == 0


def test_a_child_counts_its_own_faults() -> None:
    observers._forget()
    observers.failed("log", OSError())
    child = os.fork()
    if child == 0:
        os._exit(len(observers.counts))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert observers.counts == {"log": 1}
