"""A real PostgreSQL for development, for as long as a command or a test runs; never for production.

Who is whose child:

    make, a shell or a test
    `-- supervisor      python -m api_hour.plugins.embedded; holds the lock of the data folder
        |-- postgres    in a session of its own, which no key typed at the terminal reaches
        `-- COMMAND     in a process group of its own, the terminal's foreground group

The server ends last, so that COMMAND can finish its requests. What ends what:

* COMMAND exits: what is left of its process group gets TERM, the server is shut down, and the
  supervisor exits with COMMAND's code.
* A signal reaches COMMAND once: Ctrl-C comes from the terminal, which knows only COMMAND's group,
  and what the supervisor itself receives it forwards. It ends when COMMAND does.
* The terminal is closed, or standard input with ``--until-eof``, or the parent ends with
  ``--with-parent`` (make, by kill -9): counts as a TERM.
* The supervisor is killed by kill -9: the kernel sends COMMAND a TERM and the server an INT, its
  fast shutdown, because each asked for that (PR_SET_PDEATHSIG; on Linux only). The next start
  waits until the last process of that server has ended.
* The Python process that called ``postgresql()`` ends, by kill -9 too: its pipe to the supervisor
  is closed. PR_SET_PDEATHSIG would not do: it fires at the end of the thread that forked.
* The server exits by itself: the supervisor starts it again, after a delay that doubles.
* Ctrl-Z stops COMMAND: the supervisor stops, too, so that the shell sees a stopped job.

Users. PostgreSQL refuses to run as root, or as a user id without a name (in a container, say). Then
its processes enter a user namespace in which that id has the name ``postgres`` or ``nobody``.
Outside they remain the same user without root's powers, so the data belongs to whoever started
this. Where user namespaces are refused, or cannot enter the project's folder, root's server runs as
postgres or nobody with its data below /var/lib, beside a copy of those binaries that this user
cannot reach; no folder above the data is ever made more open. ``--remove`` removes all of it.

Locks, both by flock. The supervisor holds the file ``lock``, which names its process and the URL:
a second supervisor runs its COMMAND with that server, or is refused if it has no COMMAND. Every
process of the server holds the data folder itself, by an inherited descriptor.

The socket. The server listens on a Unix socket only: no port can be taken, and nothing is open to
the network. The socket lies in the data folder, or in a private temporary folder if that path is
too long for a socket or holds characters that clients read differently.

``__main__`` is the command, ``job`` runs COMMAND, ``cluster`` is the server and its data, ``host``
finds out what this machine allows. This module loads none of them.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from api_hour.exceptions import ConfigError


@contextmanager
def postgresql(data: Path | str = ".data", *, own: bool = False) -> Iterator["PostgreSQL"]:
    """Yield a running server whose data is in the folder ``data`` and is kept afterwards.

    If DATABASE_URL is set, yield that database instead, which cannot be stopped, unless ``own`` is
    true. Raises ConfigError, with the cure, if no server can be started.
    """
    url = "" if own else os.environ.get("DATABASE_URL", "")
    server = PostgreSQL(Path(data), url)
    try:
        if not url:
            server.start()
        yield server
    finally:
        server.stop()


class PostgreSQL:
    """A server at ``url`` that tests may stop and start again, from any thread."""

    def __init__(self, data: Path, url: str = "") -> None:
        self.url = url
        self._data = data
        self._supervisor: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int:
        """The process id of the server itself; raises ConfigError if it is stopped."""
        if self._supervisor is None:
            raise ConfigError("no process id: this PostgreSQL is stopped, or is DATABASE_URL's")
        folder = parse_qs(urlsplit(self.url).query)["host"][0]
        return int(Path(folder, ".s.PGSQL.5432.lock").read_text().split()[0])

    def start(self) -> None:
        """Start the server, or restart it; raise ConfigError if it accepts no connections."""
        self.stop()
        command = [sys.executable, "-m", __name__, "--until-eof", "--data", str(self._data)]
        self._supervisor = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.PIPE,  # never written to; closed by whatever ends this process
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "DATABASE_URL": ""},
            start_new_session=True,
        )
        output = self._supervisor.stdout
        self.url = output.readline().strip() if output else ""
        if not self.url:
            _, errors = self._supervisor.communicate()
            raise ConfigError(errors.strip())

    def stop(self) -> None:
        """Stop the server and wait until it has exited; open connections are cut."""
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            with supervisor:
                supervisor.terminate()
