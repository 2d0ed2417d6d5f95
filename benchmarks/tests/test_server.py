"""A contender is started once and stopped with all its processes, whatever it does."""

import socket
import sys
from pathlib import Path

import pytest

from benchmarks import server
from benchmarks.installation import Installation
from benchmarks.server import NotServing, Server
from benchmarks.tests.conftest import Prepare, small_contender
from testkit.ports import free_port
from testkit.processes import session


def test_a_server_is_stopped_with_all_its_processes(prepare: Prepare) -> None:
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
    monkeypatch.setattr(server, "STOPPING", 0.5)
    monkeypatch.setattr(server, "ORPHANED", 0.1)
    with prepare("deaf").start() as running:
        pass
    assert session(running.pid) == []


def test_the_error_of_a_server_that_does_not_start_has_its_last_output(prepare: Prepare) -> None:
    with pytest.raises(NotServing) as error, prepare("work=much").start():
        pass
    assert str(error.value).startswith("it does not listen on its port:\n")
    assert str(error.value).endswith("invalid literal for int() with base 10: 'much'")


def test_a_port_in_use_is_refused(prepare: Prepare) -> None:
    runner = prepare()
    with runner.start(), pytest.raises(NotServing) as error, runner.start():
        pass
    assert str(error.value) == f"port {runner.port} is in use: name another with --port"


def test_a_server_sees_its_own_environment_and_none_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--threads=64")
    show = "import os, sys; sys.exit(str(sorted(os.environ)))"
    one = small_contender(
        "show", command=[sys.executable, "-c", show], environment={"OWN": "{port}"}
    )
    server = Server(Installation(one, tmp_path), free_port(), environment={"GIVEN": "1"})
    with pytest.raises(NotServing) as error, server:
        pass
    assert "'OWN'" in str(error.value)
    assert "'GIVEN'" in str(error.value)
    assert "'DATABASE_URL'" in str(error.value)
    assert "GUNICORN" not in str(error.value)
