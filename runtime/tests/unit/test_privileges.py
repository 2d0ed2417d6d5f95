"""Rights are given up in one place, and files are given away by their descriptors."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from gunicorn.workers.base import Worker as GunicornWorker

import api_hour
from api_hour.worker.process import Worker

PACKAGE = Path(api_hour.__file__).parent
RIGHTS = {
    *("setuid", "seteuid", "setreuid", "setresuid", "setgid", "setegid", "setregid", "setresgid"),
    *("setgroups", "initgroups", "set_owner_process"),
}
# An application of its own, with a server that root may not run.
APART = PACKAGE / "plugins" / "embedded"


def uses(names: set[str]) -> Iterator[str]:
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if not isinstance(node, ast.Attribute) or path.is_relative_to(APART):
                continue
            if node.attr in names and ast.unparse(node.value) in ("os", "util", "path"):
                yield f"{path.relative_to(PACKAGE)}: {node.attr}"


@pytest.mark.parametrize(
    ("names", "module"),
    [(RIGHTS, "privileges.py"), ({"chown", "lchown", "chmod", "lchmod"}, "master/listeners.py")],
    ids=["rights", "owners by name"],
)
def test_one_module_does_it(names: set[str], module: str) -> None:
    assert {found.partition(":")[0] for found in uses(names)} == {module}


def test_gunicorns_own_way_is_never_taken() -> None:
    assert "set_owner_process" in GunicornWorker.init_process.__code__.co_names
    assert Worker.init_process is not GunicornWorker.init_process
    assert not {"super", "GunicornWorker"} & {*Worker.init_process.__code__.co_names}
