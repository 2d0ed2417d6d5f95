"""The files of the how-to guides for nginx, HAProxy and PgBouncer, used by these programs."""

import http.client
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg2
import pytest
import yaml

from api_hour.plugins import embedded
from api_hour.plugins.embedded import host
from docs.tests.pages import DOCS, ROOT
from testkit.ports import accepts, free_port
from testkit.postgresql import as_superuser
from testkit.processes import Daemon, Program
from testkit.reloads import work_through_three_reloads
from testkit.waiting import until

HOW_TO = DOCS / "how-to"
TEMPLATE = ROOT / "<<cookiecutter.project_slug>>"
CLIENTS = 3
ADDRESS = "127.0.0.2"  # of the clients; the proxies have 127.0.0.1
SERVER = """
import api_hour
from aiohttp import web


async def index(request):
    answer = {"client": request.remote, "scheme": request.scheme}
    return api_hour.JSON(answer, headers={"X-Seen": request.headers["X-Request-ID"]})


async def ready(request):
    return web.Response(status=200 if container.ready else 503)


class Container(api_hour.Container):
    def servers(self):
        global container
        container, app, admin = self, web.Application(), web.Application()
        app.router.add_get("/", index)
        admin.router.add_get("/health/ready", ready)
        return {"http": api_hour.HTTPServer(app), "admin": api_hour.HTTPServer(admin)}
"""
POOLED = "postgresql://hello:secret@127.0.0.1:{port}/postgres"
Proxy = Callable[[Path, str], Program]


def nginx(folder: Path, text: str) -> Program:
    """Start nginx with the page's file, which belongs in conf.d."""
    (folder / "hello.conf").write_text(text)
    names = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{name}_temp_path {folder}/{name};\n" for name in names)
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;\n"
        f"events {{}}\nhttp {{ access_log off;\n{temporary}include hello.conf; }}\n"
    )
    options = ("-e", folder / "error.log", "-p", folder, "-c", folder / "nginx.conf")
    return Program(_program("nginx"), *options)


def haproxy(folder: Path, text: str) -> Program:
    """Start HAProxy with the page's file."""
    (folder / "haproxy.cfg").write_text(text)
    return Program(_program("haproxy"), "-db", "-f", folder / "haproxy.cfg")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """Return a daemon that answers with the client's address; it trusts the page's proxies."""
    (tmp_path / "server.py").write_text(SERVER)
    options = ["--workers=2", "--trusted-proxies=127.0.0.1"]
    listen = [f"--listen={name}=tcp://127.0.0.1:0" for name in ("http", "admin")]
    with Daemon(tmp_path, "server:Container", *options, *listen) as running:
        yield running.ready(2)


@pytest.mark.parametrize(
    ("start", "file"), [(nginx, "nginx.conf"), (haproxy, "haproxy.cfg")], ids=["nginx", "haproxy"]
)
def test_a_proxy_passes_the_client_on_and_loses_nothing_in_three_reloads(
    start: Proxy, file: str, daemon: Daemon, tmp_path: Path
) -> None:
    text = (HOW_TO / "behind-a-proxy" / "proxy" / file).read_text()
    front = free_port()
    with _running(start, tmp_path, _with_ports(text, front, daemon)):
        until(lambda: _is_served(front), f"{file} does not answer")

        def client(turns: Iterator[int]) -> None:
            with closing(_connected(front)) as connection:
                for _ in turns:
                    status, identity, answer = _answer(connection)
                    assert (status, answer) == (200, {"client": ADDRESS, "scheme": "http"})
                    assert re.fullmatch(r"[0-9a-f-]{32,36}", identity)

        assert work_through_three_reloads(daemon, *[client] * CLIENTS) > 0
    assert daemon.stop() == 0


@pytest.mark.timeout(120)
def test_pgbouncer_accepts_the_page_s_settings_and_the_role_has_its_timeouts(
    tmp_path: Path,
) -> None:
    program = _program("pgbouncer")
    role = (HOW_TO / "pgbouncer" / "role.sql").read_text()
    as_superuser(tmp_path / "data", f"CREATE ROLE hello LOGIN PASSWORD 'secret';\n{role}")
    with (
        embedded.postgresql(tmp_path / "data", own=True) as server,
        _bouncer(program, server.url) as port,
    ):
        url = POOLED.format(port=port)
        asked = "-c statement_timeout=9000 -c client_connection_check_interval=9000"
        assert _execute(url, "SHOW statement_timeout", options=asked) == "5s"
        assert _execute(url, "SHOW client_connection_check_interval") == "1s"


def test_the_sums_of_capacity_are_those_of_a_generated_project() -> None:
    text = " ".join((HOW_TO / "capacity.rst").read_text().split())
    main = (TEMPLATE / "etc" / "<<cookiecutter.project_slug>>" / "main.yaml").read_text()
    workers = int(_found(r"workers: (\d+)", main))
    most = int(_found(r"maxsize: (\d+)", main))
    (overlay,) = (TEMPLATE / "deploy" / "kubernetes" / "production").iterdir()
    patches = yaml.safe_load(overlay.read_text().replace("<<", "").replace(">>", ""))["patches"]
    pods = yaml.safe_load(patches[0]["patch"])["spec"]["maxReplicas"]
    assert f"begins with W = {workers}, M = {most} and, in production, P = {pods}" in text
    assert f"2 * {pods} * {workers} * {most} = {2 * pods * workers * most} connections" in text
    assert f"M = 97 / (2 * {pods} * {workers}), rounded down: {97 // (2 * pods * workers)}" in text
    assert f"P = 97 / (2 * {workers} * {most}), rounded down: {97 // (2 * workers * most)}" in text


def _with_ports(text: str, front: int, daemon: Daemon) -> str:
    """Replace the page's ports by those of a test."""
    changes = {
        r"(?<=listen )80(?=;)|(?<=bind :)80\b": front,
        r"(?<=127\.0\.0\.1:)8000\b": daemon.port(),
        r"(?<=check port )8001\b": daemon.port("admin"),
    }
    for pattern, port in changes.items():
        text = re.sub(pattern, str(port), text)
    assert f":{daemon.port()}" in text
    return text


@contextmanager
def _running(start: Proxy, folder: Path, text: str) -> Iterator[None]:
    place = folder / "proxy"
    place.mkdir()
    with start(place, text):
        yield


@contextmanager
def _bouncer(program: str, behind: str) -> Iterator[int]:
    """Run PgBouncer with the page's lines; yield its port."""
    port = free_port()
    settings = psycopg2.extensions.parse_dsn(behind)
    own = (
        f"[databases]\npostgres = host={settings['host']} port={settings.get('port', 5432)}\n"
        f"{(HOW_TO / 'pgbouncer' / 'pgbouncer.ini').read_text()}"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        "auth_type = scram-sha-256\nauth_file = users.txt\n"
    )
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / "pgbouncer.ini").write_text(own)
        (place / "users.txt").write_text('"hello" "secret"\n')
        who = host.identity(place)  # it refuses root
        for path in (place, *place.iterdir()):
            os.chown(path, who.uid, -1)
        with Program(program, "pgbouncer.ini", folder=place, before_exec=who.enter):
            until(lambda: accepts(port), "PgBouncer does not listen")
            yield port


def _execute(url: str, sql: str, **options: str) -> str:
    """Run statements; return the first value of the last one, if any."""
    with closing(psycopg2.connect(url, **options)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return str(cursor.fetchone()[0]) if cursor.description else ""


def _connected(port: int) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", port, 20, (ADDRESS, 0))


def _answer(connection: http.client.HTTPConnection) -> tuple[int, str, dict[str, str]]:
    """Send forged headers; return the status, the id that the daemon saw, and its answer."""
    lies = {"X-Forwarded-For": "192.0.2.66", "X-Forwarded-Proto": "https", "X-Request-ID": "mine"}
    connection.request("GET", "/", headers=lies)
    response = connection.getresponse()
    body = response.read()
    return response.status, response.headers.get("X-Seen", ""), json.loads(body) if body else {}


def _is_served(port: int) -> bool:
    with closing(_connected(port)) as connection:
        try:
            connection.request("GET", "/")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False


def _program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def _found(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    assert found, pattern
    return found[1]
