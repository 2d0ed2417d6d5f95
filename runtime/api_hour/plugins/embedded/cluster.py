"""One PostgreSQL cluster in one folder: how it is made, started, kept running and ended.

It knows neither command nor terminal: `embedded` is its door.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from api_hour.exceptions import ConfigError
from api_hour.plugins.embedded import host

STARTING = 60.0  # seconds for initdb, for a start, and for the end of an earlier server
STOPPING = 20.0  # seconds for PostgreSQL's fast shutdown, and again for the immediate one
BACK_OFF = 0.2, 5.0  # seconds before the first restart, and at most
STEADY = 10.0  # seconds of running after which back-off begins anew
SETTINGS = {
    "listen_addresses": "",  # the socket only: no port to collide, nothing for the network
    "port": "5432",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "32MB",
    "fsync": "on",  # the data is kept between runs
}
Pause = Callable[[float], None]


@contextmanager
def running(data: Path, pause: Pause) -> Iterator["Cluster"]:
    """Run the server of the folder ``data``; ``pause`` waits seconds, and raises to give up.

    Raises ConfigError when that cannot be: no binaries, another version, another owner, in use.
    """
    who = host.identity(data.resolve())
    host.prepare(who)
    if who.data != data.resolve():
        say(f"User namespaces are refused here: root's PostgreSQL has its data in {who.data}")
    with _locked(who.data, pause) as lock, host.socket_folder(who.data) as folder:
        cluster = Cluster(who, lock, folder, pause)
        cluster.create()
        try:
            cluster.start()
            cluster.wait_ready()
            (who.data / "lock").write_text(f"{os.getpid()}\n{cluster.url}\n")
            yield cluster
        finally:
            cluster.stop()


class InUse(ConfigError):
    """Say which process runs the server of a folder, and its address, once it has one."""

    def __init__(self, data: Path, pid: str = "?", url: str = "") -> None:
        cure = "end it, or name another folder (--data)"
        super().__init__(f"{data} is in use by process {pid}: {cure}")
        self.pid, self.url = pid, url


class Cluster:
    """Make, start and end the server of a folder whose lock is held."""

    def __init__(self, who: host.Identity, lock: int, socket: Path, pause: Pause) -> None:
        self.folder = who.data / "postgresql"
        self.password = who.data / "password"
        self.log = who.data / "postgresql.log"
        self.bin, self.version = host.binaries(self.folder)
        self.socket, self._who, self._lock, self._pause = socket, who, lock, pause
        self._process: subprocess.Popen[bytes] | None = None
        self._started = self._delay = 0.0
        self._due: float | None = None
        host.check_access(who, self.bin / "postgres", os.X_OK)
        self.log.write_bytes(b"")

    @property
    def url(self) -> str:
        """Return the address in a form that libpq, asyncpg and dbmate read alike."""
        where = f"host={self.socket}&port=5432"  # the port: whatever PGPORT says
        return f"postgresql://postgres:{self.password.read_text()}@/postgres?{where}"

    def create(self) -> None:
        """Make the cluster beside its place, then rename it: one made by half never counts."""
        if (self.folder / "PG_VERSION").exists():
            self._check_kept()
            return
        if self.folder.exists() and os.listdir(self.folder):
            raise ConfigError(f"{self.folder} is no PostgreSQL cluster: move it away")
        say(f"Creating a PostgreSQL {self.version} cluster in {_shown(self.folder)} ...")
        new = self.folder.with_name("postgresql.new")
        shutil.rmtree(new, ignore_errors=True)
        host.write_secret(self.password, self._who.uid)
        options = ["--username=postgres", "--auth=scram-sha-256", f"--pwfile={self.password}"]
        options += ["--encoding=UTF8", f"--locale={host.utf8_locale()}"]
        process = self._spawn(signal.SIGTERM, "initdb", "-D", new, *options)
        try:
            _await("initdb", lambda: process.poll() is not None, self._pause, told=True)
        finally:
            _end(process, signal.SIGTERM)
        if process.returncode:
            raise ConfigError(f"initdb failed:\n{self._last_lines()}")
        new.rename(self.folder)

    def _check_kept(self) -> None:
        """Look for the password; remove a crash's pid files whose number is another's by now."""
        if not self.password.exists():
            raise ConfigError(f"{self.password} is missing: restore it, or remove {self.folder}")
        for file in (self.folder / "postmaster.pid", self.socket / ".s.PGSQL.5432.lock"):
            with suppress(OSError, IndexError):
                if host.works_in(int(file.read_text().split()[0])) != str(self.folder):
                    file.unlink()

    def start(self) -> None:
        """Start the server without waiting; its death signal is INT, the fast shutdown."""
        settings = [f"--{name}={value}" for name, value in SETTINGS.items()]
        self._started, self._due = time.monotonic(), None
        settings.append(f"--unix_socket_directories={self.socket}")
        self._process = self._spawn(signal.SIGINT, "postgres", "-D", self.folder, *settings)

    def wait_ready(self) -> None:
        """Return when the server accepts connections; raise ConfigError with its log if it ends."""
        _await("PostgreSQL", lambda: self._ended() or self._ready(), self._pause)
        if self._ended():
            raise ConfigError(f"PostgreSQL did not start:\n{self._last_lines()}")
        say(f"PostgreSQL {self.version} is ready (socket in {_shown(self.socket)})")

    def tend(self) -> float | None:
        """Start a server again that ended by itself; return the seconds until then, if any."""
        if not self._ended():
            return None
        if self._due is None:
            self._due = time.monotonic() + self._back_off()
        if (left := self._due - time.monotonic()) > 0:
            return left
        self.start()
        return None

    def _back_off(self) -> float:
        if time.monotonic() - self._started > STEADY:
            self._delay = 0.0
        if not self._delay:
            say(f"PostgreSQL ended by itself, and is started again:\n{self._last_lines()}")
        self._delay = min(self._delay * 2 or BACK_OFF[0], BACK_OFF[1])
        return self._delay

    def stop(self) -> None:
        """End the server by its fast shutdown, which rolls open transactions back."""
        if self._process is not None:
            _end(self._process, signal.SIGINT, signal.SIGQUIT)

    def _ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def _ready(self) -> bool:
        """Read the status that the server keeps in its pid file, in the eighth line."""
        with suppress(FileNotFoundError):
            lines = (self.folder / "postmaster.pid").read_text().splitlines()
            ours = self._process is not None and lines[:1] == [str(self._process.pid)]
            return ours and len(lines) > 7 and lines[7].strip() == "ready"
        return False

    def _last_lines(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-6:])

    def _spawn(self, death: int, program: str, *arguments: str | Path) -> subprocess.Popen[bytes]:
        """Start a program as the identity, in a session that the terminal's keys do not reach."""
        parent = os.getpid()

        def enter() -> None:
            self._who.enter()
            host.die_with_parent(death, parent)  # a change of user would clear it

        with self.log.open("ab") as log:
            return subprocess.Popen(  # noqa: S603
                [self.bin / program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                pass_fds=[self._lock],  # held until the last process of the server has ended
                preexec_fn=enter,
            )


def say(text: str) -> None:
    """Tell the developer."""
    with suppress(OSError):  # the terminal has gone
        print(text, file=sys.stderr, flush=True)


def _shown(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


@contextmanager
def _locked(data: Path, pause: Pause) -> Iterator[int]:
    """Hold the folder: refuse a second supervisor, wait for a server that outlives its own."""
    holder = os.open(data / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    server = os.open(data, os.O_RDONLY)
    try:
        if not _lock(holder):
            raise InUse(data, *(data / "lock").read_text().split())
        (data / "lock").write_text(f"{os.getpid()}\n")
        _await("the server of an earlier run to end", lambda: _lock(server), pause)
        yield server
    finally:
        os.close(server)
        os.close(holder)


def _lock(descriptor: int) -> bool:
    with suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _await(what: str, done: Callable[[], bool], pause: Pause, *, told: bool = False) -> None:
    """Poll until ``done``; say so after a second, if not ``told``; give up after STARTING."""
    begun = time.monotonic()
    while not done():
        waited = time.monotonic() - begun
        if waited > STARTING:
            raise ConfigError(f"waited {STARTING:.0f} s in vain for {what}")
        if waited > 1 and not told:
            say(f"Waiting for {what} ...")
            told = True
        pause(0.02)


def _end(process: subprocess.Popen[bytes], *signals: int) -> None:
    """End a child by one signal after another, the last by force."""
    for number in (*signals, signal.SIGKILL):
        if process.poll() is not None:
            return
        process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOPPING)
