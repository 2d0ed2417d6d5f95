"""Three daemons of a generated project, each in a network namespace, behind HAProxy.

As in a cluster, HAProxy asks each one's ``/health/ready`` on its admin port whether to send it
requests. The project serves what the load of runtime/tests/chaos asks for, and each daemon keeps a
ledger of its own.
"""

import os
import shutil
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from testkit.ledger import SOURCE, read_ledger
from testkit.ports import accepts, free_port
from testkit.processes import API_HOUR, Daemon, Program
from testkit.projects import bake
from testkit.waiting import until

MEMBERS = 3
NEEDS = ("haproxy", "ip")
STOP_DELAY = 5.0  # seconds; fifty checks
OPTIONS = (
    *("--config-dir", "etc/hello", "--workers", "2", "--drain-idle", "0.6"),
    *("--stop-delay", str(STOP_DELAY), "--graceful-timeout", "20"),
)
PORTS = {"http": 8000, "admin": 8001}
CONTAINER = '''"""Serve the work of the load instead of the project's own pages."""

import chaotic
import hello.container


class Container(chaotic.Container, hello.container.Container):
    def servers(self):
        theirs = hello.container.Container.servers(self)
        return {"admin": theirs["admin"], "http": super().servers()["http"]}
'''
PROXY = """global
    stats socket {folder}/haproxy.sock
defaults
    mode http
    timeout connect 2s
    timeout check 10s
    timeout client 60s
    timeout server 60s
    retries 3
    option redispatch 1
listen cluster
    bind 127.0.0.1:{port}
    option httpchk GET /health/ready
    http-check expect status 200
    default-server check port 8001 inter 100ms fall 1 rise 1
{servers}
"""


def missing() -> str:
    """Return what this machine lacks, or an empty text."""
    absent = ["root"] if os.geteuid() != 0 else []
    absent += [name for name in NEEDS if shutil.which(name) is None]
    if absent:
        return f"a cluster cannot be made here without {', '.join(absent)}"
    probe = f"api-hour-{os.getpid()}-probe"
    made = subprocess.run(
        ["ip", "netns", "add", probe], capture_output=True, text=True, check=False
    )
    if made.returncode != 0:
        return f"no network namespace can be made: {made.stderr.strip()}"
    _ip("netns", "delete", probe)
    return ""


class Member:
    """A network namespace, and the daemon in it."""

    def __init__(self, number: int, project: Path) -> None:
        self.name = f"api-hour-{os.getpid()}-{number}"
        self.server = f"member{number}"
        network = f"198.18.{os.getpid() % 256}"  # RFC 2544: for tests between networks
        self._gateway, self.address = (f"{network}.{4 * number + host}" for host in (1, 2))
        self._link = f"ah{os.getpid()}-{number}"
        self.project = project
        self.ledger = project.with_name(f"ledger{number}")
        self.ledger.mkdir()
        self._daemons: list[Daemon] = []

    @property
    def daemon(self) -> Daemon:
        """Return the daemon that started last."""
        return self._daemons[-1]

    def make(self) -> None:
        """Create the namespace, with a virtual cable to this one."""
        _ip("netns", "add", self.name)
        _ip("link", "add", self._link, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        _ip("address", "add", f"{self._gateway}/30", "dev", self._link)
        _ip("link", "set", self._link, "up")
        inside = partial(_ip, "-netns", self.name)
        inside("address", "add", f"{self.address}/30", "dev", "eth0")
        inside("link", "set", "eth0", "up")
        inside("link", "set", "lo", "up")

    def start(self) -> None:
        """Start the daemon."""
        listen = (f"--listen={name}=tcp://{self.address}:{port}" for name, port in PORTS.items())
        daemon = Daemon(
            self.project,
            *("cluster:Container", *OPTIONS, *listen),
            command=("ip", "netns", "exec", self.name, *API_HOUR),
            variables={"CHAOS_LEDGER": str(self.ledger)},
        )
        self._daemons.append(daemon)

    def remove(self) -> None:
        """Kill the remaining daemons, and remove the namespace with its cable."""
        for daemon in self._daemons:
            daemon.kill()
        _ip("netns", "delete", self.name)

    def notes(self) -> Counter[str]:
        """Return every line of the ledger: ``+id`` begun, ``-id`` finished."""
        return read_ledger(self.ledger)


class Cluster:
    """The members, and HAProxy in front of them at ``port``."""

    def __init__(self, folder: Path, members: list[Member]) -> None:
        self.members, self.port = members, free_port()
        self._folder, self._socket = folder, folder / "haproxy.sock"
        servers = [f"    server {member.server} {member.address}:8000" for member in members]
        (folder / "haproxy.cfg").write_text(
            PROXY.format(folder=folder, port=self.port, servers="\n".join(servers))
        )

    @contextmanager
    def proxied(self) -> Iterator[None]:
        """Run HAProxy until the end of the block."""
        with Program("haproxy", "-db", "-f", self._folder / "haproxy.cfg"):
            until(lambda: accepts(self._socket), "HAProxy did not start")
            yield

    def is_up(self, member: Member) -> bool:
        """Tell whether HAProxy sends requests to a member."""
        with socket.socket(socket.AF_UNIX) as sock, sock.makefile() as answer:
            sock.connect(str(self._socket))
            sock.sendall(b"show stat\n")
            rows = [line.split(",") for line in answer]
        (row,) = (row for row in rows if row[1:2] == [member.server])
        return row[17].startswith("UP")

    def wait_up(self, member: Member) -> None:
        """Wait until HAProxy sends requests to a member."""
        until(lambda: self.is_up(member), f"{member.server} does not come up")

    def wait_down(self, member: Member) -> None:
        """Wait until HAProxy sends no more requests to a member."""
        until(lambda: not self.is_up(member), f"{member.server} does not go down")


@contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """Yield a cluster whose members are all up."""
    project = bake(folder / "out", database="none")
    (project / "chaotic.py").write_text(SOURCE)
    (project / "cluster.py").write_text(CONTAINER)
    members = [Member(number, project) for number in range(MEMBERS)]
    with ExitStack() as stack:
        for member in members:
            stack.callback(member.remove)
            member.make()
            member.start()
        cluster = Cluster(folder, members)
        stack.enter_context(cluster.proxied())
        for member in members:
            member.daemon.ready(2)
            cluster.wait_up(member)
        yield cluster


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
