"""A contender for tests: a server of one file, right or with one fault."""

import shutil
import sys
from pathlib import Path
from typing import Any, Protocol

import pytest

from benchmarks.contender import Contender, Declaration
from benchmarks.installation import Installation
from benchmarks.plan import Plan
from benchmarks.runner import Runner
from testkit.ports import free_port

SERVER = Path(__file__).with_name("faulty_server.py")
needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
needs_valgrind = pytest.mark.skipif(
    shutil.which("valgrind") is None, reason="valgrind is not installed"
)


class Prepare(Protocol):
    """A function that prepares the server with a fault, by a short plan with changes."""

    def __call__(self, fault: str = "", **plan: Any) -> Runner: ...


@pytest.fixture
def prepare(tmp_path: Path) -> Prepare:
    """Return a function that prepares the server."""

    def prepared(fault: str = "", **plan: Any) -> Runner:
        port = free_port()
        size = Plan.short(venvs=tmp_path, port=port, **plan)
        return Runner(Installation(small_contender("little", fault), tmp_path), size, port, "")

    return prepared


def small_contender(name: str, fault: str = "", **declared: Any) -> Contender:
    """Return a contender that runs the server."""
    command = [sys.executable, str(SERVER), "{port}", *([fault] if fault else [])]
    given = {"title": name.capitalize(), "command": command, "cases": ["index"], **declared}
    return Contender(name, SERVER.parent, Declaration(**given))
