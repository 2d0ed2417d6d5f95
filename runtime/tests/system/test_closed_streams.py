"""What the master tells may fail: closed streams, no descriptors, nobody at systemd's socket."""

import os
import re
import resource
import signal
import socket
from collections.abc import Callable
from pathlib import Path

from testkit.processes import API_HOUR, Daemon
from testkit.waiting import until

Run = Callable[..., Daemon]


def test_closed_standard_streams_are_not_given_to_sockets(project: Path) -> None:
    log = project / "daemon.log"
    command = ("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *API_HOUR)
    arguments = ("hello:Container", "--listen", "http=tcp://127.0.0.1:0", "--log-file", str(log))
    with Daemon(project, *arguments, command=command) as daemon:
        until(lambda: log.exists() and "Worker ready" in log.read_text(), "no worker is ready")
        for pid in (daemon.pid, *worker_pids(log)):
            streams = {os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)}
            assert streams == {os.devnull}
        port = int(re.findall(r"Listening on http at tcp://.*:(\d+)", log.read_text())[0])
        daemon.send(signal.SIGUSR1)
        daemon.send(signal.SIGHUP)
        until(lambda: "Reloaded: " in log.read_text(), "no reload")
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert client.makefile("rb").readline().endswith(b" 200 OK\r\n")
        assert daemon.stop() == 0


def test_without_streams_and_log_file_the_daemon_serves(project: Path) -> None:
    command = ("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *API_HOUR)
    path = project / "hello.sock"
    arguments = ("hello:Container", "--listen", f"http=unix:{path}")
    with Daemon(project, *arguments, command=command) as daemon:
        until(path.is_socket, "it does not listen")
        for _ in range(2):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                client.sendall(b"GET / HTTP/1.0\r\n\r\n")
                assert client.makefile("rb").readline().endswith(b" 200 OK\r\n")
            daemon.send(signal.SIGHUP)
        assert daemon.stop() == 0


def test_a_master_without_descriptors_goes_on(run: Run, tmp_path: Path) -> None:
    daemon = run(NOTIFY_SOCKET=str(tmp_path / "nobody")).ready()
    taken = len(os.listdir(f"/proc/{daemon.pid}/fd"))
    limits = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (taken, limits[1]))
    mark = daemon.mark()
    daemon.send(signal.SIGHUP)
    daemon.wait_for("Reload failed, the running workers stay: .*Too many open files", after=mark)
    daemon.send(signal.SIGUSR2)
    worker = daemon.workers()[0]
    assert daemon.get()[1]["pid"] == worker
    os.kill(worker, signal.SIGKILL)
    daemon.wait_for("cannot start a worker: .*Too many open files; next in", count=2, after=mark)
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, limits)
    daemon.ready(after=mark)
    assert daemon.get()[0] == 200


def worker_pids(log: Path) -> list[int]:
    return [int(pid) for pid in re.findall(r"Worker ready \(pid: (\d+)\)", log.read_text())]
