"""The daemon as it runs in production: a process that obeys signals."""

import http.client
import re
import subprocess
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).parent.parent
PATIENCE = 60  # seconds


def test_the_daemon_boots_answers_and_exits_on_term(environment: dict[str, str]) -> None:
    program = str(Path(sys.executable).with_name("api_hour"))
    free = ["--listen", "http=tcp://127.0.0.1:0", "--listen", "admin=tcp://127.0.0.1:0"]
    command = [program, "<< cookiecutter.project_slug >>:Container", *free]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=pipe, text=True) as daemon:
        guard = threading.Timer(PATIENCE, daemon.kill)
        guard.start()
        try:
            ports = _ports(daemon)
            assert _status(ports["http"], "/") == 200
            assert _status(ports["admin"], "/health/ready") == 200
            assert _status(ports["admin"], "/health/engines") == 200
            assert _status(ports["admin"], "/metrics") == 200
            assert _status(ports["admin"], "/metrics", host="a.page.example") == 421
            assert _status(ports["http"], "/health/live") == 404
            assert _status(ports["http"], "/metrics") == 404
            daemon.terminate()
            assert daemon.wait(PATIENCE) == 0
        finally:
            guard.cancel()
            daemon.kill()


def _ports(daemon: subprocess.Popen[str]) -> dict[str, int]:
    """Read the log until a worker is ready; return the port of each listener."""
    assert daemon.stderr
    log = ""
    for line in daemon.stderr:
        log += line
        if "Worker ready" in line:
            found = re.findall(r"Listening on (\w+) at tcp://127\.0\.0\.1:(\d+)", log)
            return {name: int(port) for name, port in found}
    raise AssertionError(f"The daemon did not become ready:\n{log}")


def _status(port: int, path: str, host: str = "localhost") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", path, headers={"Host": host})
        return connection.getresponse().status
    finally:
        connection.close()
