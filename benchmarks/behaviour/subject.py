"""A server under trial: its application in a folder of its own, its log, its workers."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.behaviour.declaration import HERE, Entrant
from testkit.http import Connection
from testkit.ports import free_port
from testkit.processes import Program, session
from testkit.waiting import seconds_until

START_TIMEOUT = 60.0  # seconds
RELOAD_TIMEOUT = 120.0  # seconds; some replace one worker after the other
INHERITED = ("HOME", "LANG", "LC_ALL", "PATH", "TMPDIR", "USER")  # environment variables
WORK = b"GET /work?id=one&sleep=0&size=0 HTTP/1.1\r\nHost: trial\r\n\r\n"


class NotServing(Exception):
    """A server did not start."""


class Subject(Program):
    """A command of an entrant, running on a copy of its application in ``folder``."""

    def __init__(
        self, entrant: Entrant, folder: Path, command: Sequence[str], *, linked: bool = False
    ) -> None:
        self.entrant, self.folder = entrant, folder / "project"
        self.ledger = folder / "ledger"
        self.wanted = entrant.declaration.workers
        self._source = (HERE / "applications" / entrant.declaration.application).read_text()
        self.ledger.mkdir()
        if linked:
            self.folder.symlink_to(self._make_folder("release-1", 1))
        else:
            self._make_folder("project", 1)
        self.http, self.tcp, self.udp = (free_port() for _ in range(3))
        super().__init__(
            *self._filled(command), folder=self.folder, environment=self._environment()
        )

    def _filled(self, command: Sequence[str]) -> list[str]:
        own = {"{tcp}": self.tcp, "{udp}": self.udp, "{current}": self.folder}
        words = list(command)
        for brace, value in own.items():
            words = [word.replace(brace, str(value)) for word in words]
        return self.entrant.installation.fill(self.http)(words)

    def _environment(self) -> dict[str, str]:
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        own = {
            "LEDGER": str(self.ledger),
            "PWD": str(self.folder),  # as a shell sets it, which keeps the link in it
            # No bytecode: two releases written within a second would share it.
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
        }
        return {**inherited, **own}

    def _make_folder(self, name: str, release: int) -> Path:
        """Return a new folder with this release of the application."""
        folder = self.folder.with_name(name)
        folder.mkdir()
        for file in self.entrant.declaration.beside:
            shutil.copy(HERE / "applications" / file, folder)
        (folder / "app.py").write_text(self._source_of(release))
        return folder

    def _source_of(self, release: int) -> str:
        return self._source.replace('RELEASE = "1"', f'RELEASE = "{release}"')

    def write(self, *, release: int = 1, more: str = "") -> None:
        """Write the application with this release number, and with ``more`` at its end."""
        (self.folder / "app.py").write_text(self._source_of(release) + more)

    def append(self, file: str, text: str) -> None:
        """Append ``text`` to a file of the application's folder."""
        path = self.folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as opened:
            opened.write(text)

    def replace_release(self) -> None:
        """Let the link name release 2 instead of release 1, and remove the folder of release 1."""
        old, link = self.folder.resolve(), self.folder.with_name("next")
        link.symlink_to(self._make_folder("release-2", 2))
        link.rename(self.folder)
        shutil.rmtree(old)

    def notes(self, name: str) -> list[str]:
        """Return the lines that the application has written into a file of the ledger."""
        file = self.ledger / name
        return file.read_text().splitlines() if file.exists() else []

    def living(self, release: int | None = None) -> list[int]:
        """Return the running processes that have imported the application, of one release."""
        alive = session(self.process.pid)
        starts = [line.split() for line in self.notes("starts")]
        found = {int(pid) for pid, which in starts if release in (None, int(which))}
        return sorted(found & set(alive))

    def reload_to(self, release: int) -> float | None:
        """Reload the code; return the seconds until only new workers run, None if that fails."""
        old = set(self.living())

        def only_new() -> bool:
            new = len(self.living(release)) >= self.wanted
            return not self.runs or (new and not old & set(self.living()))

        self.write(release=release)
        self.reload()
        took = seconds_until(only_new, RELOAD_TIMEOUT)
        return took if self.runs else None

    def reload(self) -> None:
        """Reload the code as the server's documentation says."""
        reload = self.entrant.declaration.reload
        if reload.isupper():
            self.process.send_signal(signal.Signals[f"SIG{reload}"])
        else:
            subprocess.run(["sh", "-c", reload], cwd=self.folder, check=True, timeout=10)  # noqa: S603, S607

    @property
    def runs(self) -> bool:
        """Whether its first process is running."""
        return self.process.poll() is None

    def serves(self) -> bool:
        """Return whether a request on a new connection is answered within five seconds."""
        return self.answers(WORK) == 200

    def answers(self, request: bytes, patience: float = 5.0) -> int:
        """Return the status of the answer, 0 if there is none."""
        try:
            with Connection(self.http, patience) as connection:
                connection.send(request)
                return connection.receive().status
        except (EOFError, OSError, ValueError):
            return 0

    def block(self) -> int:
        """Send the request that blocks a worker forever; return that worker's process id."""
        self._blocking = Connection(self.http)
        self._blocking.send(b"GET /block HTTP/1.1\r\nHost: trial\r\n\r\n")
        if seconds_until(lambda: self.notes("blocked"), START_TIMEOUT) is None:
            raise NotServing("the request that blocks did not arrive")
        return int(self.notes("blocked")[0])

    def wait_until_serving(self) -> None:
        """Wait until all workers serve; raise NotServing with the last lines of the output."""

        def serving_or_gone() -> bool:
            return not self.runs or (len(self.living()) >= self.wanted and self.serves())

        if seconds_until(serving_or_gone, START_TIMEOUT) is None or not self.runs:
            raise NotServing("it does not serve:\n" + "\n".join(self.lines[-15:]))


@contextmanager
def serving(
    entrant: Entrant, command: Sequence[str] = (), *, linked: bool = False
) -> Iterator[Subject]:
    """Yield a server that serves; leave none of its processes behind.

    ``linked``: the application's folder is a link to that of release 1.
    """
    with tempfile.TemporaryDirectory(prefix="behaviour-") as folder:
        words = command or entrant.declaration.command
        subject = Subject(entrant, Path(folder), words, linked=linked)
        try:
            subject.wait_until_serving()
            yield subject
        finally:
            subject.kill()
