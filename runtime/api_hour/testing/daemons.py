"""The daemon as it runs in production: a process, on free ports.

The test opens the sockets, and hands them over by descriptor, so that no port is guessed and no log
is read to learn it. The daemon says by sd_notify(3) when it is ready, however it logs.
"""

import http.client
import json as json_library
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from multidict import CIMultiDict, CIMultiDictProxy

from api_hour.testing.answers import Answer

TIMEOUT = 60.0  # seconds until it is ready, for an answer, and until it has ended
MAX_OUTPUT = 65_536  # bytes of the output's end that a failure shows
PAUSE = 0.1  # seconds between two looks whether it has ended

# The kernel ends the daemon when the thread that started it ends, by kill -9 of pytest too. That is
# said in the child, before it becomes the daemon.
START = """
import os, signal, sys
from api_hour.plugins.embedded.host import die_with_parent
die_with_parent(signal.SIGTERM, int(sys.argv[1]))
os.execv(sys.executable, [sys.executable, "-m", "api_hour", *sys.argv[2:]])
"""


@contextmanager
def daemon(
    application: str,
    listeners: Sequence[str] = ("http",),
    *,
    datagram: Sequence[str] = (),
    arguments: Sequence[str] = (),
    folder: Path | str = ".",
    variables: Mapping[str, str] | None = None,
) -> Iterator["Daemon"]:
    """Run ``api_hour application`` in ``folder`` for the length of the block; yield it once ready.

    ``listeners`` (TCP) and ``datagram`` (UDP) name all of its listeners: each gets a free port of
    127.0.0.1. ``variables`` are added to the environment, ``arguments`` to the command line. What
    it prints is shown if the test fails. In the end TERM stops it.

    Raises AssertionError, with its output, if it is not ready in a minute, or if it does not exit
    with 0. None of its processes is left behind, not even if pytest is killed. Enter it in the main
    thread: the daemon ends with the thread.
    """
    command = [sys.executable, "-c", START, str(os.getpid()), application, *arguments]
    with (
        tempfile.TemporaryFile() as output,
        tempfile.TemporaryDirectory() as place,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as news,
    ):
        news.bind(f"{place}/ready")
        news.settimeout(PAUSE)
        with _bound(listeners, datagram) as sockets:
            process = subprocess.Popen(  # noqa: S603
                [*command, *(f"--listen={name}=fd://{s.fileno()}" for name, s in sockets.items())],
                cwd=folder,
                env=_environment(variables or {}, f"{place}/ready"),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[sock.fileno() for sock in sockets.values()],
                start_new_session=True,
            )
            ports = {name: sock.getsockname()[1] for name, sock in sockets.items()}
        running = Daemon(process, ports, output)
        try:
            running._wait_ready(news)
            yield running
            running.stop()
        finally:
            running._kill()
            print(running.output)  # pytest shows it if the test failed


class Daemon:
    """A running daemon: ``ports`` are those of its listeners, ``process`` is its master."""

    def __init__(
        self, process: subprocess.Popen[bytes], ports: dict[str, int], output: IO[bytes]
    ) -> None:
        self.process = process
        self.ports = ports
        self._output = output

    @property
    def output(self) -> str:
        """The end of what it has printed."""
        size = os.fstat(self._output.fileno()).st_size
        # By offset: the daemon writes at the position of the file that it shares with this process.
        start = max(size - MAX_OUTPUT, 0)
        return os.pread(self._output.fileno(), MAX_OUTPUT, start).decode(errors="replace")

    def url(self, listener: str = "http") -> str:
        """Return the address of a listener that speaks HTTP."""
        return f"http://127.0.0.1:{self.ports[listener]}"

    def get(self, path: str, listener: str = "http", **options: Any) -> Answer:
        """Send a GET on a connection of its own; ``options`` are those of ``request``."""
        return self.request("GET", path, listener, **options)

    def request(
        self,
        method: str,
        path: str,
        listener: str = "http",
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        json: Any = None,
    ) -> Answer:
        """Send a request, with a body, or with one in JSON, on a connection of its own."""
        sent = dict(headers or {})
        if json is not None:
            body = json_library.dumps(json).encode()
            sent.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[listener], timeout=TIMEOUT)
        try:
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            received = CIMultiDictProxy(CIMultiDict(response.getheaders()))
            return Answer(response.status, received, response.read())
        finally:
            connection.close()

    def stop(self) -> None:
        """Send TERM and wait for the end; raises AssertionError if it does not exit with 0."""
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            raise self._failure(f"did not end within {TIMEOUT:g} s of TERM") from None
        if code:
            raise self._failure(f"ended with {code}")

    def _wait_ready(self, news: socket.socket) -> None:
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            with suppress(TimeoutError):
                if b"READY=1" in news.recv(4096).split(b"\n"):
                    return
            if self.process.poll() is not None:
                raise self._failure(f"ended with {self.process.returncode} before it was ready")
        raise self._failure(f"was not ready within {TIMEOUT:g} s")

    def _kill(self) -> None:
        """Kill what is left of its processes: its workers, too, are of its session's group."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _failure(self, what: str) -> AssertionError:
        return AssertionError(f"the daemon {what}:\n{self.output}")


@contextmanager
def _bound(listeners: Sequence[str], datagram: Sequence[str]) -> Iterator[dict[str, socket.socket]]:
    """Yield a socket for each listener; at the end, the daemon alone has them."""
    with ExitStack() as stack:
        sockets = {}
        for name in (*listeners, *datagram):
            kind = socket.SOCK_DGRAM if name in datagram else socket.SOCK_STREAM
            sockets[name] = stack.enter_context(socket.socket(socket.AF_INET, kind))
            sockets[name].bind(("127.0.0.1", 0))
        yield sockets


def _environment(variables: Mapping[str, str], place: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WATCHDOG_")}
    return {**kept, "PYTHONUNBUFFERED": "1", **variables, "NOTIFY_SOCKET": place}
