"""The development PostgreSQL: a real server for as long as a command, or a test, runs.

Never for production. A supervisor runs both as its children: COMMAND in a process group of its
own that has the terminal, so that each signal reaches it once; the server ends last.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from api_hour.exceptions import ConfigError


class PostgreSQL:
    """Hold a server at ``url``, which tests may stop and start again, from any thread."""

    def __init__(self, data: Path, url: str = "") -> None:
        self.url = url
        self._data = data
        self._supervisor: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int:
        """Return the process id of the server itself."""
        if self._supervisor is None:
            raise ConfigError("this PostgreSQL is stopped, or is not ours (DATABASE_URL)")
        folder = parse_qs(urlsplit(self.url).query)["host"][0]
        return int(Path(folder, ".s.PGSQL.5432.lock").read_text().split()[0])

    def start(self) -> None:
        """Start the server, again if it runs; raise ConfigError when it accepts no connections."""
        self.stop()
        command = [sys.executable, "-m", __name__, "--until-eof", "--data", str(self._data)]
        self._supervisor = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "DATABASE_URL": ""},
            start_new_session=True,
        )
        answer = self._supervisor.stdout
        self.url = answer.readline().strip() if answer else ""
        if not self.url:
            _, said = self._supervisor.communicate()
            raise ConfigError(said.strip())

    def stop(self) -> None:
        """End the server and wait for its end; open connections are cut."""
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            with supervisor:
                supervisor.terminate()


@contextmanager
def postgresql(data: Path | str = ".data", *, own: bool = False) -> Iterator[PostgreSQL]:
    """Yield a running server with its data in the folder ``data``, kept afterwards.

    When DATABASE_URL is set, yield that one, which cannot be stopped, unless ``own`` is true.
    Raises ConfigError, with the cure, when no server can be had.
    """
    url = "" if own else os.environ.get("DATABASE_URL", "")
    server = PostgreSQL(Path(data), url)
    try:
        if not url:
            server.start()
        yield server
    finally:
        server.stop()
