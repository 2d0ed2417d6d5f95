"""Bake projects from the template and run them as their users do: by make, in a terminal."""

import fcntl
import http.client
import json
import os
import pty
import shutil
import subprocess
import sys
import termios
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import combinations, product
from pathlib import Path
from typing import Any

import psutil
import yaml
from cookiecutter.main import cookiecutter

from testkit.ports import free_port
from testkit.waiting import TIMEOUT, until

ROOT = Path(__file__).parent.parent
DATABASES = ("aiopg", "asyncpg", "none")
OPTIONS: dict[str, tuple[str, ...]] = {
    "database": DATABASES,
    "container": ("yes", "no"),
    "systemd": ("yes", "no"),
    "ci": ("github", "gitlab", "none"),
}
PRODUCT = [dict(zip(OPTIONS, values, strict=True)) for values in product(*OPTIONS.values())]
INSTALLING = 600.0  # seconds for a first start
READY = "Worker ready (pid: "  # which a worker's line alone says, the banner does not
LEAVING = 60.0  # seconds for the last process to end
MARK = "API_HOUR_TEST_RUN"  # in the environment of every process of one run, or of one reader
# What our own surroundings must not hand down to a project of somebody else.
OURS = {
    "ADMIN_PORT",
    "DATABASE_URL",
    "HTTP_API_KEY",
    "HTTP_DOCS",
    "HTTP_PORT",
    "MAKEFLAGS",
    "MAKELEVEL",
    "MFLAGS",
    "PYTEST_ADDOPTS",
    "PYTEST_ARGS",
    "VIRTUAL_ENV",
}


def pairs(options: Mapping[str, str]) -> set[tuple[tuple[str, str], ...]]:
    """Return every pair of answers that a choice of options holds."""
    return set(combinations(sorted(options.items()), 2))


def covering() -> list[dict[str, str]]:
    """Return few choices of options that hold every pair there is."""
    missing = {pair for options in PRODUCT for pair in pairs(options)}
    chosen = []
    while missing:
        chosen.append(max(PRODUCT, key=lambda options: len(pairs(options) & missing)))
        missing -= pairs(chosen[-1])
    return chosen


def bake(
    folder: Path, template: Path | str = ROOT, *, checkout: str | None = None, **answers: str
) -> Path:
    """Bake a project in ``folder``, with none of the user's own settings of cookiecutter."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = folder.with_name(f"{folder.name}.yaml")
    own = {name: f"{folder}.{name}" for name in ("cookiecutters_dir", "replay_dir")}
    settings.write_text(yaml.safe_dump(own))
    baked = cookiecutter(
        str(template),
        checkout=checkout,
        no_input=True,
        extra_context=answers,
        output_dir=str(folder),
        config_file=str(settings),
    )
    return Path(baked)


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder, as nobody in particular; return what it said."""
    settings = ("user.name=Test", "user.email=test@example.org", "maintenance.auto=false")
    command = ["git", *(part for setting in settings for part in ("-c", setting)), *arguments]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def pip(*arguments: str) -> None:
    """Run pip, three times at most: what it fetches comes from a network."""
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    for last in (False, False, True):
        if subprocess.run(command, check=last).returncode == 0:
            return


def unpack(folder: Path, *packages: str) -> None:
    """Unpack Debian's packages into an empty folder, with all that they need."""
    command = ["mmdebstrap", "--quiet", "--variant=extract", "--format=directory"]
    command += ['--aptopt=Acquire::Retries "9"', f"--include={','.join(packages)}"]
    subprocess.run([*command, "trixie", str(folder)], check=True)


def program(name: str) -> str:
    """Return the path of a development tool, which lies beside this Python."""
    found = shutil.which(
        name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    assert found, f"{name} is not installed: see requirements-dev.txt"
    return found


@dataclass(frozen=True)
class Answer:
    """An HTTP response, and how long it took."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float

    def json(self) -> Any:
        """Return the body as data."""
        return json.loads(self.body)


def ask(port: int, path: str, method: str = "GET", data: object = None) -> Answer:
    """Send one request on a connection of its own."""
    begun = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        body = None if data is None else json.dumps(data)
        connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    return Answer(response.status, dict(response.headers), content, time.monotonic() - begun)


@dataclass
class Project:
    """A baked project, and what its user's environment adds."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    user: list[str] = field(default_factory=list)  # a command that becomes another user
    installing: str = ""  # what make said when it installed

    @property
    def package(self) -> Path:
        """Return the folder of its code."""
        return self.folder / self.folder.name

    def make(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run make to its end."""
        return subprocess.run(
            [*self.user, "make", "--no-print-directory", *arguments],
            cwd=self.folder,
            env=self.surroundings() | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=INSTALLING,
        )

    def succeed(self, *arguments: str, **environment: str) -> str:
        """Run make, which must succeed; return what it said."""
        result = self.make(*arguments, **environment)
        said = result.stdout + result.stderr
        assert result.returncode == 0, said
        return said

    @contextmanager
    def running(self, *arguments: str, timeout: float = TIMEOUT) -> "Iterator[Run]":
        """Run ``make run``, or another verb, in a terminal of its own until a worker is ready."""
        run = Run()
        ports = [f"HTTP_PORT={run.http}", f"ADMIN_PORT={run.admin}"]
        command = [*self.user, "make", "--no-print-directory", *(arguments or ("run",)), *ports]
        with run.started(command, self.folder, self.surroundings(), timeout):
            yield run

    @contextmanager
    def serving(self, **environment: str) -> "Iterator[Run]":
        """Run the daemon as in production, by its console script, until a worker is ready."""
        run = Run()
        command = [".venv/bin/api_hour", f"{self.folder.name}:Container"]
        command += ["--listen", f"http=tcp://127.0.0.1:{run.http}"]
        command += ["--listen", f"admin=tcp://127.0.0.1:{run.admin}"]
        with run.started(command, self.folder, self.surroundings() | environment, TIMEOUT):
            yield run

    def surroundings(self) -> dict[str, str]:
        """Return the environment of its user."""
        kept = {name: value for name, value in os.environ.items() if name not in OURS}
        return kept | self.environment

    @contextmanager
    def edited(self, path: Path, old: str, new: str) -> Iterator[None]:
        """Replace ``old`` by ``new`` in one of its files, for the duration of the block."""
        text = path.read_text()
        assert old in text
        _save(path, text.replace(old, new))
        try:
            yield
        finally:
            _save(path, text)


def _save(path: Path, text: str) -> None:
    """Replace a file at once: who watches it sees one change, and reads no half of it."""
    beside = path.with_name(f"{path.name}~")  # a name that watchers ignore
    beside.write_text(text)
    beside.replace(path)


class Run:
    """A command in the foreground of a terminal, and all that it starts."""

    def __init__(self) -> None:
        self.http, self.admin = free_port(), free_port()
        self.console = ""
        self._mark = uuid.uuid4().hex

    @contextmanager
    def started(
        self, command: list[str], folder: Path, environment: dict[str, str], timeout: float
    ) -> Iterator[None]:
        """Start, wait for the first worker; at the end kill whatever is left."""
        self._terminal, theirs = pty.openpty()
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env={**environment, MARK: self._mark},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        os.close(theirs)
        reader = threading.Thread(target=self._read, daemon=True)
        reader.start()
        try:
            until(lambda: self.ended() or READY in self.console, timeout=timeout)
            assert len(self.processes()) > 1, self.console
            yield
        except BaseException:
            print(self.console)
            raise
        finally:
            self._kill()
            reader.join(TIMEOUT)
            os.close(self._terminal)

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._terminal, 65536)
            except OSError:  # the last process has closed its end
                return
            self.console += data.decode(errors="replace").replace("\r\n", "\n")

    def ask(self, path: str, method: str = "GET", data: object = None) -> Answer:
        """Ask on the listener ``http``."""
        return ask(self.http, path, method, data)

    def health(self, name: str) -> int:
        """Return the status of ``/health/NAME`` on the listener ``admin``."""
        return ask(self.admin, f"/health/{name}").status

    @property
    def child(self) -> psutil.Process:
        """Return make's child."""
        (child,) = psutil.Process(self.process.pid).children()
        return child

    def press_ctrl_c(self) -> None:
        """Type it into the terminal."""
        os.write(self._terminal, b"\x03")

    def ended(self) -> bool:
        """Say whether the command itself has ended."""
        return self.process.poll() is not None

    def leaves_nothing(self) -> None:
        """Wait until the last process is gone."""
        until(lambda: self.ended() and not self.processes(), timeout=LEAVING)

    def processes(self) -> list[psutil.Process]:
        """Return every process of this run that is alive."""
        return marked(self._mark)

    def names(self) -> set[str]:
        """Return the names of the programs of this run."""
        found = set()
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):  # it has just ended
                found.add(process.name())
        return found

    def _kill(self) -> None:
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.kill()
        self.process.wait(TIMEOUT)


def marked(mark: str) -> list[psutil.Process]:
    """Return every process that is alive and has ``mark`` in its environment, under ``MARK``."""
    variable = f"{MARK}={mark}".encode()
    found = []
    for pid in psutil.pids():
        with suppress(OSError, psutil.Error):  # it has ended, or we may not read it
            if variable in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.append(psutil.Process(pid))
    return found


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
