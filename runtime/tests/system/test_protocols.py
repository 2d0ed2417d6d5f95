"""Other protocols than HTTP, as daemons of two workers: load while HUP comes three times.

Nothing is lost for new connections and datagrams; the peers of open connections are told in their
protocol's own way.
"""

import asyncio
import signal
import smtplib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncssh
import pytest
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus
from websockets.sync.client import connect

from testkit.processes import Daemon
from testkit.waiting import TIMEOUT, until

Run = Callable[..., Daemon]

STREAMS = """\
import api_hour


async def echo(reader, writer):
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()


def on_drain(server):
    for transport in server.transports:
        transport.write(b"bye\\n")
        transport.close()


class Container(api_hour.Container):
    def servers(self):
        return {"http": api_hour.StreamServer(echo, on_drain=on_drain)}
"""
PROTOCOL = """\
import asyncio

import api_hour


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


def on_drain(server):
    for transport in server.transports:
        transport.write(b"bye\\n")
        transport.close()


class Container(api_hour.Container):
    def servers(self):
        return {"http": api_hour.StreamServer(Echo, on_drain=on_drain)}
"""
DATAGRAMS = """\
import asyncio

import api_hour


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        self.transport.sendto(data, address)


class Container(api_hour.Container):
    def servers(self):
        return {"udp": api_hour.DatagramServer(Echo)}
"""
WEBSOCKETS = """\
import websockets

import api_hour


async def echo(connection):
    async for message in connection:
        await connection.send(message)


class Adapted:
    def __init__(self, server):
        self.server = server

    def close(self):
        self.server.close(code=1012, reason="service restart")

    async def wait_closed(self):
        await self.server.wait_closed()


async def serve(sock):
    return Adapted(await websockets.serve(echo, sock=sock))


class Container(api_hour.Container):
    def servers(self):
        return {"http": api_hour.SocketServer(serve)}
"""
AIOHTTP = """\
import weakref

from aiohttp import WSMsgType, web

import api_hour

OPEN = weakref.WeakSet()


async def echo(request):
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    OPEN.add(socket)
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)
    return socket


async def close_all(app):
    for socket in set(OPEN):
        await socket.close(code=1012, message=b"service restart")


class Container(api_hour.Container):
    def servers(self):
        app = web.Application()
        app.router.add_get("/", echo)
        app.on_shutdown.append(close_all)
        return {"http": api_hour.HTTPServer(app)}
"""
SMTP = '''\
import asyncio

from aiosmtpd.smtp import SMTP

import api_hour


class Handler:
    async def handle_DATA(self, server, session, envelope):
        await asyncio.sleep(0.05)
        return "250 OK"


class Polite(SMTP):
    leaving = False

    def connection_made(self, transport):
        super().connection_made(transport)
        PEERS.add(self)

    def connection_lost(self, error):
        super().connection_lost(error)
        PEERS.discard(self)


PEERS = set()


class Container(api_hour.Container):
    def servers(self):
        return {"http": api_hour.StreamServer(lambda: Polite(Handler()), on_drain=on_drain)}


async def on_drain(server):
    """Say 421 to every peer, after the command that is under way."""
    for peer in list(PEERS):
        if peer.session is None or peer.envelope is None or not peer.envelope.rcpt_tos:
            peer.transport.write(b"421 Service restarts, come again\\r\\n")
            peer.transport.close()
'''
SSH = """\
import asyncssh

import api_hour

KEY = asyncssh.generate_private_key("ssh-ed25519")


class Server(asyncssh.SSHServer):
    def begin_auth(self, username):
        return False


async def process(process):
    SESSIONS.add(process)
    try:
        async for line in process.stdin:
            process.stdout.write(line)
    except asyncssh.TerminalSizeChanged:
        pass
    finally:
        SESSIONS.discard(process)
        process.exit(0)


SESSIONS = set()


async def serve(sock):
    return await asyncssh.listen(
        sock=sock, server_factory=Server, server_host_keys=[KEY], process_factory=process
    )


async def on_drain(server):
    for session in list(SESSIONS):
        session.stdout.write("the service restarts\\n")
        session.exit(0)


class Container(api_hour.Container):
    def servers(self):
        return {"http": api_hour.SocketServer(serve, on_drain=on_drain)}
"""


def start(run: Run, project: Path, code: str, *more: str) -> Daemon:
    (project / "other.py").write_text(code)
    return run("other:Container", "--workers", "2", *more).ready(2)


class Load:
    """One exchange, repeated in threads until it is stopped; counts the good and the bad."""

    def __init__(
        self,
        exchange: Callable[[], None],
        threads: int = 3,
        expected: Callable[[Exception], bool] = lambda error: False,
    ) -> None:
        self.exchange, self.expected = exchange, expected
        self.good, self.bad = 0, list[Exception]()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.exchange()
                self.good += 1
            except Exception as error:
                if not self.expected(error):
                    self.bad.append(error)

    @contextmanager
    def running(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join(TIMEOUT)


def reload_three_times(daemon: Daemon, load: Load) -> None:
    """Send HUP three times, each after some exchanges, and wait for the new workers."""
    with load.running():
        for _ in range(3):
            so_far = load.good
            until(lambda so_far=so_far: load.good > so_far + 20 or load.bad, "no exchange")  # type: ignore[misc]
            mark = daemon.mark()
            daemon.send(signal.SIGHUP)
            daemon.ready(2, after=mark)
        so_far = load.good
        until(lambda: load.good > so_far + 20 or load.bad, "no exchange after the last reload")
    assert load.bad == []


@pytest.mark.parametrize("code", [STREAMS, PROTOCOL], ids=["handler", "protocol"])
def test_streams_lose_no_connection_and_open_ones_are_told(
    run: Run, project: Path, code: str
) -> None:
    daemon = start(run, project, code)

    def exchange() -> None:
        with socket.create_connection(("127.0.0.1", daemon.port()), TIMEOUT) as client:
            client.sendall(b"line\n")
            answer = client.makefile("rb").readline()
            assert answer in (b"line\n", b"bye\n")

    with socket.create_connection(("127.0.0.1", daemon.port()), TIMEOUT) as witness:
        witness.sendall(b"hello\n")
        stream = witness.makefile("rb")
        assert stream.readline() == b"hello\n"
        reload_three_times(daemon, Load(exchange))
        assert stream.readline() == b"bye\n"
        assert stream.read() == b""
    assert daemon.stop() == 0


def test_datagrams_are_all_answered(run: Run, project: Path) -> None:
    (project / "other.py").write_text(DATAGRAMS)
    (project / "etc" / "other").mkdir(parents=True)
    (project / "etc" / "other" / "main.yaml").write_text("api_hour: {listeners: {}}\n")
    daemon = Daemon(
        project, "other:Container", "--workers", "2", "--listen", "udp=udp://127.0.0.1:0"
    )
    with daemon:
        daemon.ready(2)
        port = int(daemon.wait_for(r"Listening on udp at udp://.*:(\d+)$")[1])

        def exchange() -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.settimeout(TIMEOUT)
                client.sendto(b"datagram", ("127.0.0.1", port))
                assert client.recv(100) == b"datagram"

        reload_three_times(daemon, Load(exchange))
        assert daemon.stop() == 0


@pytest.mark.parametrize(
    "code",
    [AIOHTTP, AIOHTTP.replace("        app.on_shutdown.append(close_all)\n", ""), WEBSOCKETS],
    ids=["aiohttp", "aiohttp by default", "websockets"],
)
def test_websockets_are_closed_with_service_restart(run: Run, project: Path, code: str) -> None:
    """The library websockets answers 503 to a handshake that its close() finds under way.

    asyncio drops a connection that it has accepted and not handed over when its server closes.
    """
    daemon = start(run, project, code)
    url = f"ws://127.0.0.1:{daemon.port()}"

    def exchange() -> None:
        with connect(url) as client:
            client.send("word")
            assert client.recv() == "word"

    def expected(error: Exception) -> bool:
        if isinstance(error, InvalidMessage):
            return code == WEBSOCKETS
        if isinstance(error, InvalidStatus):
            return (code, error.response.status_code) == (WEBSOCKETS, 503)
        rcvd = error.rcvd if isinstance(error, ConnectionClosed) else None
        return rcvd is not None and rcvd.code == 1012

    with connect(url) as witness:
        witness.send("first")
        assert witness.recv() == "first"
        reload_three_times(daemon, Load(exchange, 2, expected))
        with pytest.raises(ConnectionClosed) as ended:
            witness.recv()
        assert ended.value.rcvd is not None
        assert ended.value.rcvd.code == 1012
    assert daemon.stop() == 0


def test_smtp_says_421_between_commands_and_finishes_a_mail(run: Run, project: Path) -> None:
    daemon = start(run, project, SMTP)

    def exchange() -> None:
        with smtplib.SMTP("127.0.0.1", daemon.port(), timeout=TIMEOUT) as client:
            client.sendmail("a@example.org", ["b@example.org"], "Subject: x\r\n\r\nbody\r\n")

    def expected(error: Exception) -> bool:
        if isinstance(error, smtplib.SMTPServerDisconnected):  # smtplib did not read the 421
            return any(why in str(error) for why in ("421", "unexpectedly", "not connected"))
        if isinstance(error, smtplib.SMTPRecipientsRefused):
            return {code for code, _ in error.recipients.values()} == {421}
        return isinstance(error, smtplib.SMTPResponseException) and error.smtp_code == 421

    with smtplib.SMTP("127.0.0.1", daemon.port(), timeout=TIMEOUT) as witness:
        witness.ehlo()
        reload_three_times(daemon, Load(exchange, 2, expected))
        assert witness.sock is not None
        assert b"421" in witness.sock.recv(1000)
    assert daemon.stop() == 0


def test_ssh_sessions_read_a_last_message(run: Run, project: Path) -> None:
    daemon = start(run, project, SSH, "--loop", "asyncio")

    async def scenario() -> str:
        options = {"known_hosts": None, "username": "someone", "client_keys": None}
        async with (
            asyncssh.connect("127.0.0.1", daemon.port(), **options) as connection,
            connection.create_process() as process,
        ):
            process.stdin.write("typed\n")
            assert await process.stdout.readline() == "typed\n"
            await asyncio.to_thread(_reload, daemon)
            return str(await process.stdout.readline())

    assert asyncio.run(scenario()) == "the service restarts\n"
    assert daemon.stop() == 0


def _reload(daemon: Daemon) -> None:
    mark = daemon.mark()
    daemon.send(signal.SIGHUP)
    daemon.ready(2, after=mark)


def test_datagrams_come_over_a_unix_socket_too(project: Path) -> None:
    (project / "other.py").write_text(DATAGRAMS)
    path, answers = project / "in.sock", project / "out.sock"
    listen = ("--listen", f"udp=unixgram:{path}")
    (project / "etc" / "other").mkdir(parents=True)
    (project / "etc" / "other" / "main.yaml").write_text("api_hour: {listeners: {}}\n")
    with Daemon(project, "other:Container", *listen) as daemon:
        daemon.ready()
        daemon.wait_for(f"Listening on udp at unixgram:{path}")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            client.settimeout(TIMEOUT)
            client.bind(str(answers))
            client.sendto(b"datagram", str(path))
            assert client.recv(100) == b"datagram"
        assert daemon.stop() == 0
    assert not path.exists()


def test_a_descriptor_that_was_given_is_served(project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        arguments = ("hello:Container", "--listen", f"http=fd://{holder.fileno()}")
        with Daemon(project, *arguments, pass_fds=[holder.fileno()]) as daemon:
            with socket.create_connection(holder.getsockname(), TIMEOUT) as client:
                client.sendall(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
                assert client.makefile("rb").readline() == b"HTTP/1.1 200 OK\r\n"
            assert daemon.stop() == 0


def test_an_upgrade_hands_datagram_sockets_over(project: Path) -> None:
    (project / "other.py").write_text(DATAGRAMS)
    (project / "etc" / "other").mkdir(parents=True)
    (project / "etc" / "other" / "main.yaml").write_text("api_hour: {listeners: {}}\n")
    with Daemon(project, "other:Container", "--listen", "udp=udp://127.0.0.1:0") as daemon:
        daemon.ready()
        port = int(daemon.wait_for(r"Listening on udp at udp://.*:(\d+)$")[1])
        mark = daemon.mark()
        daemon.send(signal.SIGUSR2)
        daemon.ready(after=mark)
        daemon.send(signal.SIGTERM)
        assert daemon.process.wait(TIMEOUT) == 0
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(TIMEOUT)
            client.sendto(b"datagram", ("127.0.0.1", port))
            assert client.recv(100) == b"datagram"
