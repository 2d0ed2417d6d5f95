"""What is loaded at run time: a daemon pays for what it uses."""

import ast
import subprocess
import sys
from pathlib import Path
from typing import Annotated, get_origin

import pytest

import api_hour

ROOT = Path(api_hour.__file__).parent
LIBRARIES = {"aiohttp", "gunicorn", "msgspec", "prometheus_client", "ujson", "yaml"}
DRIVERS = {"aiopg", "asyncpg", "psycopg", "psycopg2"}


def modules_after(statement: str) -> set[str]:
    """Run ``statement`` in a fresh interpreter and return the packages that it loaded."""
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_the_package_alone_imports_no_library() -> None:
    loaded = modules_after("import api_hour")
    assert "api_hour" in loaded
    assert not loaded & (LIBRARIES | DRIVERS | {"uvloop", "multidict"})


def test_a_name_of_the_package_brings_only_what_it_needs() -> None:
    assert not modules_after("from api_hour import ConfigError, Container") & LIBRARIES
    loaded = modules_after("from api_hour import JSON")
    assert "aiohttp" in loaded
    assert "gunicorn" not in loaded


def test_the_plugin_of_pytest_imports_what_a_test_uses() -> None:
    assert not modules_after("import api_hour.testing") & (LIBRARIES | DRIVERS)
    loaded = modules_after("from api_hour.testing import client, daemon, serve")
    assert "aiohttp" in loaded
    assert not loaded & (DRIVERS | {"gunicorn"})


def test_the_command_line_imports_no_http() -> None:
    loaded = modules_after("import api_hour.cli")
    assert "gunicorn" in loaded
    assert not loaded & {"aiohttp", "ujson", "prometheus_client"}


@pytest.mark.parametrize(
    "path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_a_module_begins_with_its_docstring(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize("name", api_hour.__all__)
def test_every_public_name_is_there(name: str) -> None:
    value = getattr(api_hour, name)
    # An annotation has the module of what it annotates, or of typing.
    assert get_origin(value) is Annotated or value.__module__.startswith("api_hour.")
    assert name in dir(api_hour)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"module 'api_hour' has no attribute 'nothing'"):
        _ = api_hour.nothing


def test_the_package_tells_type_checkers_the_same_names() -> None:
    tree = ast.parse((ROOT / "__init__.py").read_text())
    checked = next(node for node in tree.body if isinstance(node, ast.If))
    names = {
        alias.asname
        for node in checked.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert names == set(api_hour.__all__)
