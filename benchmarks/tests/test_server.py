"""A contender is started once and stopped with all its processes, whatever it does."""

import socket
import sys
from pathlib import Path

import pytest

from benchmarks import server
from benchmarks.installation import Installation
from benchmarks.server import NotServing, Server
from benchmarks.tests.conftest import Prepare, contender
from testkit.ports import free_port
from testkit.processes import session


def test_a_server_is_gone_with_all_its_processes(prepare: Prepare) -> None:
    with prepare().start() as running:
        assert session(running.pid) == [running.pid]
        with socket.create_connection(("127.0.0.1", running.port), 10):
            pass
    assert session(running.pid) == []
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", running.port), 10)


def test_a_server_that_ignores_term_is_killed(
    prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "STOP_TIMEOUT", 0.5)
    monkeypatch.setattr(server, "ORPHAN_GRACE", 0.1)
    with prepare("deaf").start() as running:
        pass
    assert session(running.pid) == []


def test_a_server_that_does_not_start_shows_the_end_of_its_output(prepare: Prepare) -> None:
    with pytest.raises(NotServing) as error, prepare("work=much").start():
        pass
    assert str(error.value).startswith("it does not listen on its port:\n")
    assert str(error.value).endswith("invalid literal for int() with base 10: 'much'")


def test_a_port_in_use_is_refused(prepare: Prepare) -> None:
    runner = prepare()
    with runner.start(), pytest.raises(NotServing) as error, runner.start():
        pass
    assert str(error.value) == f"port {runner.port} is in use: choose another with --port"


def test_a_server_gets_its_own_environment_and_not_that_of_the_tests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--threads=64")
    show = "import os, sys; sys.exit(str(sorted(os.environ)))"
    command = [sys.executable, "-c", show]
    installation = Installation(
        contender("show", command=command, environment={"OWN": "{port}"}), tmp_path
    )
    server = Server(installation, free_port(), environment={"GIVEN": "1"})
    with pytest.raises(NotServing) as error, server:
        pass
    assert "'OWN'" in str(error.value)
    assert "'GIVEN'" in str(error.value)
    assert "'DATABASE_URL'" in str(error.value)
    assert "GUNICORN" not in str(error.value)
