"""Listeners of real daemons: several addresses, files of sockets, and who names them."""

import os
import signal
import socket
import stat
from pathlib import Path

import pytest

from testkit.ports import free_port
from testkit.processes import Daemon
from testkit.waiting import TIMEOUT, until

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def status(target: str | tuple[str, int]) -> bytes:
    """Return the first line of the answer to a GET over TCP or over a unix socket."""
    family = socket.AF_UNIX if isinstance(target, str) else 0
    if not family:
        family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
    with socket.socket(family) as client:
        client.settimeout(TIMEOUT)
        client.connect(target)
        client.sendall(GET)
        return client.makefile("rb").readline()


def is_served(*targets: str | tuple[str, int]) -> bool:
    return all(status(target) == b"HTTP/1.1 200 OK\r\n" for target in targets)


def test_one_listener_serves_all_its_addresses_through_slots_and_an_upgrade(project: Path) -> None:
    port, path = free_port(), project / "run.sock"
    yaml = (
        "api_hour:\n  workers: 2\n  balance: slots\n  listeners:\n    http:\n"
        f"      - tcp://127.0.0.1:{port}\n      - tcp://[::1]:{port}\n"
        f"      - unix:{path}?mode=0600\n"
    )
    (project / "etc" / "hello").mkdir(parents=True)
    (project / "etc" / "hello" / "main.yaml").write_text(yaml)
    targets = ("127.0.0.1", port), ("::1", port), str(path)
    with Daemon(project, "hello:Container", "--pid", "pid") as daemon:
        daemon.ready(2)
        assert "Configuration: etc/hello/main.yaml\n" in daemon.output
        for url in (f"tcp://127.0.0.1:{port}", f"tcp://[::1]:{port}", f"unix:{path}"):
            assert f"Listening on http at {url}\n" in daemon.output + "\n"
        assert is_served(*targets)
        # The slots of a worker that is gone are covered, on every address.
        mark = daemon.mark()
        daemon.send(signal.SIGTTOU)
        daemon.wait_for("left: exit code 0", after=mark)
        assert all(is_served(*targets) for _ in range(20))
        mark = daemon.mark()
        daemon.send(signal.SIGUSR2)
        daemon.ready(2, after=mark)
        os.kill(daemon.pid, signal.SIGTERM)
        daemon.process.wait(TIMEOUT)
        assert all(is_served(*targets) for _ in range(20))
        # Until it is promoted, the file of the socket is left to the other master.
        daemon.wait_for("this one takes its place", after=mark)
        file = project / "pid"
        until(lambda: file.exists() and file.read_text(), "the pid file was not taken over")
        os.kill(int(file.read_text()), signal.SIGTERM)
        until(lambda: not path.exists(), "the file of the socket was left behind")


def test_port_of_the_environment_opens_http_on_every_address(project: Path) -> None:
    port = free_port()
    with Daemon(project, "hello:Container", variables={"PORT": str(port)}) as daemon:
        daemon.ready()
        assert daemon.port() == port
        daemon.wait_for(r"Listening on http at tcp://\S+ \(PORT of the environment\)$")
        assert is_served(("127.0.0.1", port), ("::1", port))
        assert daemon.stop() == 0
    with Daemon(project, "hello:Container", variables={"PORT": "http"}) as daemon:
        assert daemon.wait() == 1
        assert "error: PORT must be a number from 1 to 65535, got 'http'" in daemon.output


def test_etc_is_found_in_the_folder_of_chdir(project: Path) -> None:
    path = project / "run.sock"
    (project / "etc" / "hello").mkdir(parents=True)
    (project / "etc" / "hello" / "main.yaml").write_text(
        "api_hour:\n  listeners:\n    http: unix:run.sock\n"
    )
    with Daemon(Path("/"), "--chdir", str(project), "hello:Container") as daemon:
        daemon.ready()
        assert is_served(str(path))
        (project / "etc" / "hello" / "main.yaml").write_text("api_hour:\n  workers: many\n")
        daemon.send(signal.SIGHUP)
        daemon.wait_for(r"Reload failed.*etc/hello/main.yaml:2: api_hour.workers must be")
        assert daemon.stop() == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_a_unix_socket_has_gunicorns_mode_and_owner(project: Path) -> None:
    yaml = "api_hour:\n  listeners:\n    http: [unix:a.sock, 'unix:b.sock?mode=0620&user=65534']\n"
    (project / "etc" / "hello").mkdir(parents=True)
    (project / "etc" / "hello" / "main.yaml").write_text(yaml)
    # Only the group, because another user could not read the project of this test.
    options = ["--umask", "0o007", "--group", "65533"]
    with Daemon(project, "hello:Container", *options) as daemon:
        daemon.ready()
        found = [(project / name).stat() for name in ("a.sock", "b.sock")]
        owners = [(file.st_uid, file.st_gid, stat.S_IMODE(file.st_mode)) for file in found]
        assert owners == [(0, 65533, 0o770), (65534, 65533, 0o620)]
        assert daemon.stop() == 0
        assert not (project / "a.sock").exists()
