"""``api_hour reload PIDFILE``: ask a daemon for a reload, and hear how it ended.

The master listens on a unix socket beside its pid file. A connection is a request for a reload,
and the answer is one line: ``ok`` or ``failed``, and what the log says. So no process is signalled
by a number from a file, and a connection that is made has met a living master. Only the master's
own user (and root) can connect.
"""

import os
import socket
import struct
import sys
import time
from argparse import ArgumentParser
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress

from api_hour import owned_files
from api_hour.config.settings import seconds
from api_hour.exceptions import ConfigError
from api_hour.logs.formatters import escape
from api_hour.master import listeners, pidfile
from api_hour.owned_files import ROOT

SUFFIX = ".sock"  # of the socket, after the name of the pid file
BACKLOG = 16  # requests that wait to be accepted
MAX_WAITING = 64  # connections that wait for an answer; more are closed
MAX_ANSWER = 4096  # bytes
TIMEOUT = 300.0  # seconds that the command waits by default
MAX_TIMEOUT = 86_400.0  # more overflows a socket's timeout in the end
CONNECT_TIMEOUT = 10.0  # seconds for a master that is still starting
CREDENTIALS = struct.Struct("3i")  # pid, user and group of who listens


class ReloadRequests:
    """The master's end."""

    def __init__(self, path: str, trusted: Collection[int] = (ROOT,)) -> None:
        """Listen beside the pid file ``path``, whose lock this process holds.

        Raises OSError, and ConfigError for what others have put there.
        """
        self._path = path + SUFFIX
        self._waiting: list[socket.socket] = []
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sock.setblocking(False)
        mask = os.umask(0o177)
        try:
            with owned_files.located(self._path, self._path, trusted=trusted) as place:
                place.refuse(self._path, trusted)
            with _short(self._path) as path:
                listeners.remove_stale(path, socket.SOCK_STREAM)  # of a master that was killed
                self._sock.bind(path)
            self._sock.listen(BACKLOG)
            self._inode = os.stat(self._path).st_ino
        except (OSError, ConfigError):
            self._sock.close()
            raise
        finally:
            os.umask(mask)

    def fileno(self) -> int:
        """Return the listening descriptor, for a selector."""
        return self._sock.fileno()

    def accept(self) -> bool:
        """Accept those who connect; tell whether there was one. More than BACKLOG wait a turn."""
        accepted = False
        try:
            for _ in range(BACKLOG):
                connection, _ = self._sock.accept()
                if len(self._waiting) == MAX_WAITING:
                    connection.close()
                    continue
                connection.setblocking(False)
                self._waiting.append(connection)
                accepted = True
        except BlockingIOError:
            pass
        except OSError:  # no descriptor is left, and the request stays in the queue
            time.sleep(pidfile.PAUSE)
        return accepted

    def answer(self, text: str, *, ok: bool) -> None:
        """Tell everybody who waits how the reload ended."""
        line = f"{'ok' if ok else 'failed'} {escape(text)}".encode(errors="replace")
        for connection in self._waiting:
            with suppress(OSError), connection:
                connection.send(line[: MAX_ANSWER - 1] + b"\n")
        self._waiting.clear()

    def close(self) -> None:
        """Close this process's copies, in a child that has inherited them."""
        for sock in (self._sock, *self._waiting):
            sock.close()

    def remove(self) -> None:
        """Remove the socket's file unless another one stands at its path, and close everything."""
        with suppress(OSError):
            if os.stat(self._path).st_ino == self._inode:
                os.unlink(self._path)
        self.close()


def main(arguments: Sequence[str]) -> int:
    """Run the command ``reload``; return its exit code."""
    parser = ArgumentParser(
        prog="api_hour reload",
        description="Reload the daemon of a pid file, wait until its new workers are ready, and "
        "print how it went. Exit code 1 if the reload failed or nothing runs there.",
    )
    parser.add_argument("pidfile", metavar="PIDFILE", help="what --pid names at the daemon's start")
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=TIMEOUT,
        metavar="SECONDS",
        help="give up waiting after this time; the reload goes on (default: %(default)g)",
    )
    given = parser.parse_args(arguments)
    try:
        print(request(given.pidfile, min(given.timeout, MAX_TIMEOUT)))
    except ConfigError as error:
        print(f"api_hour reload: {error}", file=sys.stderr)
        return 1
    return 0


def request(path: str, timeout: float = TIMEOUT) -> str:
    """Reload the daemon of the pid file ``path``; return its answer.

    Raises ConfigError if nothing runs there, if the reload failed, or after ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    with _connect(path, min(timeout, CONNECT_TIMEOUT)) as sock:
        answer = b""
        try:
            while not answer.endswith(b"\n") and len(answer) < MAX_ANSWER:
                sock.settimeout(max(0.001, deadline - time.monotonic()))
                if not (chunk := sock.recv(MAX_ANSWER)):
                    break
                answer += chunk
        except TimeoutError:
            raise ConfigError(
                f"the reload is not over after {timeout:g} s; the daemon's log says how far it is"
            ) from None
        except OSError as error:
            raise ConfigError(f"the daemon does not answer: {error.strerror}") from None
    verdict, _, text = answer.decode(errors="replace").strip().partition(" ")
    if verdict == "ok":
        return escape(text)
    raise ConfigError(escape(text) or "the daemon ended before the reload was over")


def _connect(path: str, timeout: float) -> socket.socket:
    """Return a connection to the master that holds the pid file; raises ConfigError."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            owner = pidfile.holder(path)
            if owner is None:
                raise ConfigError(f"not running: no daemon holds {path}, which is stale")
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.settimeout(timeout)
            try:
                with _short(path + SUFFIX) as short:
                    sock.connect(short)
                _refuse_stranger(sock, path, owner)
                return sock
            except (OSError, ConfigError):
                sock.close()
                raise
        except (FileNotFoundError, ConnectionRefusedError):
            if not os.path.exists(path):
                raise ConfigError(f"not running: {path} does not exist") from None
            # The file is locked: its holder is a master that is starting, or another program.
            if time.monotonic() >= deadline:
                raise ConfigError(f"no daemon of API-Hour answers beside {path}") from None
            time.sleep(pidfile.PAUSE)
        except OSError as error:
            raise ConfigError(f"cannot reach the daemon of {path}: {error.strerror}") from None


def _refuse_stranger(sock: socket.socket, path: str, owner: int) -> None:
    """Raise ConfigError if neither the user of the pid file nor root listens at its socket."""
    if hasattr(socket, "SO_PEERCRED"):
        given = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
        user = CREDENTIALS.unpack(given)[1]
        if user not in (owner, ROOT):
            raise ConfigError(
                f"user {user} listens at {path}{SUFFIX}, and {path} belongs to user {owner}: "
                "remove both, and restart the daemon"
            )


@contextmanager
def _short(path: str) -> Iterator[str]:
    """Yield another name of a socket, because the kernel takes no more than 107 bytes."""
    if len(os.fsencode(path)) < 108 or not os.path.isdir("/proc/self/fd"):
        yield path
        return
    folder, name = os.path.split(path)
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)
