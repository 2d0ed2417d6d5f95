"""One PostgreSQL cluster in one folder: created, started, kept running and stopped.

The order of a start: lock the folder, create the cluster if there is none, and the role of its URL,
start the server, wait until it accepts connections, write the URL into the lock file. This module
knows neither COMMAND nor the terminal.
"""

import fcntl
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from api_hour.exceptions import ConfigError
from api_hour.plugins.embedded import host, roles

START_TIMEOUT = 60.0  # seconds for initdb, for a start, and for the end of an earlier server
STOP_TIMEOUT = 20.0  # seconds for PostgreSQL's fast shutdown, and again for the immediate one
FIRST_RESTART_DELAY = 0.2  # seconds
MAX_RESTART_DELAY = 5.0  # seconds
STABLE_AFTER = 10.0  # seconds of running after which the next restart is a first one again
SETTINGS = {
    "listen_addresses": "",  # the socket only: no port to collide, nothing for the network
    "port": "5432",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "superuser_reserved_connections": "0",  # no superuser ever connects
    "shared_buffers": "32MB",
    "fsync": "on",  # the data is kept between runs
}
# Of the data folder, beside its lock.
CONTENTS = (
    *("postgresql*", "binaries*", ".s.PGSQL.*", "credentials", "password", ".gitignore"),
    *("credentials.new", ".gitignore.new"),
)
Pause = Callable[[float], None]


@contextmanager
def running(data: Path, pause: Pause) -> Iterator["Cluster"]:
    """Run the server of the folder ``data``; ``pause`` waits seconds, and raises to give up.

    Raises ConfigError if that cannot be: no binaries, another version, another owner, in use.
    """
    with _existing(data, pause) as (cluster, lock):
        try:
            cluster.start()
            cluster.wait_ready()
            lock.write(f"{os.getpid()}\n{cluster.url}\n")
            yield cluster
        finally:
            cluster.stop()


def run_as_superuser(data: Path, pause: Pause, sql: str) -> str:
    """Run SQL as the superuser of the folder ``data``, and return what it prints.

    Raises ConfigError if an error ends it, if a server uses the folder, and as ``running`` does.
    """
    with _existing(data, pause) as (cluster, _):
        printed = cluster.run_as_superuser(sql)
    return re.sub(r"\A\s*PostgreSQL .*\n|^(backend> )+", "", printed, flags=re.MULTILINE)


@contextmanager
def _existing(data: Path, pause: Pause) -> Iterator[tuple["Cluster", "Lock"]]:
    """Lock the folder and yield its cluster, which is created if there is none."""
    who = host.identity(data)
    host.prepare(who)
    if who.switches:
        say(f"PostgreSQL cannot use {_shown(data.resolve())} here: its data is in {who.data}")
    with _locked(who.data, pause) as lock, host.socket_folder(who) as socket_folder:
        cluster = Cluster(who, lock, socket_folder, pause)
        cluster.create()
        yield cluster, lock


def remove(data: Path, pause: Pause) -> None:
    """Remove the server's data, wherever it is, and the folder ``data`` if that leaves it empty.

    Raises ConfigError if a server uses it.
    """
    for place in dict.fromkeys((data, host.identity(data).data)):
        folder = place.resolve()
        if not (folder / "lock").exists():
            continue
        host.check_folder(place)
        with _locked(folder, pause):
            for name in CONTENTS:
                for path in folder.glob(name):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            (folder / "lock").unlink()
        with suppress(OSError):  # something else is in it
            folder.rmdir()
        say(f"Removed the PostgreSQL in {_shown(folder)}")


class InUse(ConfigError):
    """The folder's server belongs to another supervisor; ``url`` is empty until it is ready."""

    def __init__(self, data: Path, pid: str = "?", url: str = "") -> None:
        cure = "stop it, or choose another folder (--data)"
        super().__init__(f"{data} is in use by process {pid}: {cure}")
        self.pid, self.url = pid, url


class Cluster:
    """The server of a folder whose lock is held, and its data."""

    def __init__(self, who: host.Identity, lock: "Lock", socket_folder: Path, pause: Pause) -> None:
        self.folder = who.data / "postgresql"
        self.credentials = who.data / "credentials"
        self.log = who.data / "postgresql.log"
        self.bin, self.version = host.find_binaries(who)
        self.socket_folder, self._who, self._lock, self._pause = socket_folder, who, lock, pause
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = self._restart_delay = 0.0
        self._restart_at: float | None = None
        self._open_log(os.O_TRUNC).close()

    @property
    def url(self) -> str:
        """The URL, in a form that libpq, asyncpg and dbmate all understand."""
        where = f"host={self.socket_folder}&port=5432"  # the port: PGPORT must not change it
        with open(host.open_own(self.credentials, os.O_RDONLY)) as credentials:
            return f"postgresql://{credentials.read()}@/postgres?{where}"

    def create(self) -> None:
        """Create the cluster, and the role of its URL, if there is none.

        initdb works in a folder beside it, renamed at the end: half a cluster is never taken for
        one.
        """
        if (self.folder / "PG_VERSION").exists():
            self._remove_stale_pid_files()
        else:
            self._create_cluster()
        if not self.credentials.exists():
            self._create_role()

    def _create_cluster(self) -> None:
        if self.folder.exists() and os.listdir(self.folder):
            raise ConfigError(f"{self.folder} is not a PostgreSQL cluster: move it away")
        say(f"Creating a PostgreSQL {self.version} cluster in {_shown(self.folder)} ...")
        unfinished = self.folder.with_name("postgresql.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        os.chown(unfinished, self._who.uid, self._who.gid)
        options = ["--username=postgres", "--auth=reject"]  # _create_role() opens it
        options += ["--encoding=UTF8", f"--locale={host.utf8_locale()}"]
        self._run("initdb", "-D", unfinished, *options)
        self.credentials.unlink(missing_ok=True)  # of a cluster that was moved away
        unfinished.rename(self.folder)

    def _create_role(self) -> None:
        """Create the role of the URL, or give it a new password, and what the superuser owns."""
        password = secrets.token_urlsafe(24)
        of_superuser = self._who.data / "password"
        if of_superuser.exists():
            say(f"Giving the databases of the superuser to the role {roles.NAME} ...")
        printed = self.run_as_superuser(roles.CREATE.replace("<password>", password))
        for name in re.findall(r'\t 1: datname = "(.*)"\t\(typeid', printed):
            self.run_as_superuser(roles.GIVE_OBJECTS, name)
        host.write(self.credentials, f"{roles.NAME}:{password}")
        of_superuser.unlink(missing_ok=True)

    def run_as_superuser(self, sql: str, database: str = "postgres") -> str:
        """Run SQL without a server, and return what it prints."""
        options = [f"--{name}={value}" for name, value in roles.SUPERUSER_SETTINGS.items()]
        # It reads a statement up to a semicolon and an empty line.
        options += ["-j", database]
        return self._run("postgres", "--single", "-D", self.folder, *options, typed=f"{sql}\n;\n\n")

    def _run(self, program: str, *arguments: str | Path, typed: str = "") -> str:
        """Run a program to its end; return what it prints. Raises ConfigError with its log."""
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as printed:
            given.write(typed.encode(errors="surrogateescape"))
            given.seek(0)
            process = self._spawn(
                signal.SIGTERM, program, *arguments, stdin=given.fileno(), stdout=printed.fileno()
            )
            try:
                _wait_until(lambda: process.poll() is not None, self._pause, program, quiet=True)
            finally:
                _end(process, signal.SIGTERM)
            if process.returncode:
                raise ConfigError(f"{program} failed:\n{self._last_lines()}")
            printed.seek(0)
            return printed.read().decode(errors="replace")

    def _remove_stale_pid_files(self) -> None:
        """Remove pid files that a crash left behind.

        PostgreSQL refuses to start while the process that such a file names is alive; by now that
        may be any other process, which does not work in this folder. No server of our own can be
        alive: we hold the lock.
        """
        for file in (self.folder / "postmaster.pid", self.socket_folder / ".s.PGSQL.5432.lock"):
            with suppress(OSError, IndexError, ValueError, OverflowError):
                pid = int(host.read_own(file, self._who.uid).split()[0])
                if host.working_directory(pid) != str(self.folder):
                    file.unlink()

    def start(self) -> None:
        """Start the server without waiting until it is ready."""
        settings = [f"--{name}={value}" for name, value in SETTINGS.items()]
        settings.append(f"--unix_socket_directories={self.socket_folder}")
        self._started_at, self._restart_at = time.monotonic(), None
        # INT is the fast shutdown, here for the day on which the supervisor is killed.
        self._process = self._spawn(signal.SIGINT, "postgres", "-D", self.folder, *settings)

    def wait_ready(self) -> None:
        """Wait until the server accepts connections; raise ConfigError with its log if it exits."""
        _wait_until(lambda: self._exited() or self._ready(), self._pause, "PostgreSQL")
        if self._exited():
            raise ConfigError(f"PostgreSQL did not start:\n{self._last_lines()}")
        say(f"PostgreSQL {self.version} is ready (socket in {_shown(self.socket_folder)})")

    def restart_if_exited(self) -> float | None:
        """Start the server again if it has exited and its delay is over.

        Return the seconds after which to call again; None if the server is running.
        """
        if not self._exited():
            return None
        if self._restart_at is None:
            self._restart_at = time.monotonic() + self._next_delay()
        if (left := self._restart_at - time.monotonic()) > 0:
            return left
        self.start()
        return None

    def _next_delay(self) -> float:
        """Return the seconds before a restart: twice the last ones; report the first exit only."""
        if time.monotonic() - self._started_at > STABLE_AFTER:
            self._restart_delay = 0.0
        if not self._restart_delay:
            say(f"PostgreSQL exited unexpectedly and is restarted:\n{self._last_lines()}")
        doubled = self._restart_delay * 2 or FIRST_RESTART_DELAY
        self._restart_delay = min(doubled, MAX_RESTART_DELAY)
        return self._restart_delay

    def stop(self) -> None:
        """Stop the server by its fast shutdown, which rolls open transactions back."""
        if self._process is not None:
            _end(self._process, signal.SIGINT, signal.SIGQUIT)

    def _exited(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def _ready(self) -> bool:
        """Return the status that the server keeps in the eighth line of its pid file."""
        with suppress(FileNotFoundError):
            lines = host.read_own(self.folder / "postmaster.pid", self._who.uid).splitlines()
            ours = self._process is not None and lines[:1] == [str(self._process.pid)]
            return ours and len(lines) > 7 and lines[7].strip() == "ready"
        return False

    def _last_lines(self) -> str:
        with self._open_log() as log:
            log.seek(0)
            lines = log.read().decode(errors="replace").splitlines()
        if not os.statvfs(self.log).f_bavail:  # then the log may lack the reason
            lines.append("no space is left on this disk")
        # What clients sent is in it, and must not command the terminal.
        shown = ("".join(c if c.isprintable() else " " for c in line) for line in lines[-6:])
        return "\n".join(f"  {line}" for line in shown)

    def _open_log(self, flags: int = 0) -> BinaryIO:
        """Open the log, which is the server's: it can do no more to it than write."""
        descriptor = host.open_own(
            self.log, os.O_RDWR | os.O_CREAT | os.O_APPEND | flags, self._who.uid
        )
        os.fchown(descriptor, self._who.uid, -1)
        return open(descriptor, "a+b")

    def _spawn(
        self,
        death_signal: int,
        program: str,
        *arguments: str | Path,
        stdin: int = subprocess.DEVNULL,
        stdout: int | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a program that gets ``death_signal`` when this process ends.

        It runs as the identity, in a session of its own, which no key of the terminal reaches.
        """
        parent = os.getpid()

        def prepare_child() -> None:
            self._who.enter()
            host.die_with_parent(death_signal, parent)  # last: a change of user would clear it

        with self._open_log() as log:
            return subprocess.Popen(  # noqa: S603
                [self.bin / program, *arguments],
                stdin=stdin,
                stdout=log if stdout is None else stdout,
                stderr=log,
                cwd="/",
                start_new_session=True,
                pass_fds=[self._lock.inherited],  # until the server's last process has ended
                preexec_fn=prepare_child,
            )


def say(message: str) -> None:
    """Print a message to the developer on standard error."""
    with suppress(OSError):  # the terminal has gone
        print(message, file=sys.stderr, flush=True)


def _shown(path: Path) -> Path:
    """Return ``path`` relative to the current folder if it is below it, and that is not ``/``."""
    here = Path.cwd()
    below = here != Path("/") and path.is_relative_to(here)
    return path.relative_to(here) if below else path


class Lock(NamedTuple):
    """The descriptors of two locked files of a data folder.

    The holder of ``file`` is the supervisor, and a second one is refused at once. The holders of
    ``inherited``, which is empty and for reading only, are the processes of a server; one that
    outlives its supervisor is waited for.
    """

    file: int
    inherited: int

    def write(self, text: str) -> None:
        """Tell other supervisors something."""
        os.ftruncate(self.file, 0)
        os.pwrite(self.file, text.encode(), 0)

    def read(self) -> str:
        """Return what the supervisor who holds the lock has told."""
        return os.pread(self.file, 4096, 0).decode()


@contextmanager
def _locked(data: Path, pause: Pause) -> Iterator[Lock]:
    file = host.open_own(data / "lock", os.O_RDWR | os.O_CREAT)
    inherited = host.open_own(data / "postgresql.lock", os.O_RDONLY | os.O_CREAT)
    lock = Lock(file, inherited)
    try:
        if not _try_lock(file):
            raise InUse(data, *lock.read().split())
        lock.write(f"{os.getpid()}\n")
        _wait_until(lambda: _try_lock(inherited), pause, "the server of an earlier run to exit")
        yield lock
    finally:
        os.close(inherited)
        os.close(file)


def _try_lock(descriptor: int) -> bool:
    with suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _wait_until(
    condition: Callable[[], bool], pause: Pause, what: str, *, quiet: bool = False
) -> None:
    """Poll ``condition``; name ``what`` is awaited after a second, and give up in the end.

    Raises ConfigError after START_TIMEOUT.
    """
    started = time.monotonic()
    while not condition():
        waited = time.monotonic() - started
        if waited > START_TIMEOUT:
            raise ConfigError(f"gave up after {START_TIMEOUT:.0f} s of waiting for {what}")
        if waited > 1 and not quiet:
            say(f"Waiting for {what} ...")
            quiet = True
        pause(0.02)


def _end(process: subprocess.Popen[bytes], *signals: int) -> None:
    """Send a child one signal after another, KILL at last, until it has exited."""
    for number in (*signals, signal.SIGKILL):
        if process.poll() is not None:
            return
        process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT)
