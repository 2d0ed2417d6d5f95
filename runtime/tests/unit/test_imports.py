"""Imports run one way: the rules of the package, read from its source."""

import ast
import subprocess
import sys
from pathlib import Path
from statistics import median

import pytest

import api_hour

ROOT = Path(api_hour.__file__).parent
MAX_LINES = 250  # of a module
MAX_MEDIAN = 12  # lines of a function

SOURCES = {
    ".".join(["api_hour", *path.relative_to(ROOT).with_suffix("").parts]): path.read_text()
    for path in sorted(ROOT.rglob("*.py"))
    if path.name != "__init__.py"
}
TREES = {name: ast.parse(source) for name, source in SOURCES.items()}
PLUGINS = {name for name in SOURCES if name.startswith("api_hour.plugins.")}

# What speaks HTTP; the fast path is fast and all that only fast and carrier import.
HTTP = {"access", "bodies", "connection", "exposition", "http", "request", "responses", "strict"}
HTTP |= {"blocks", "carrier", "fast", "routes"}
# Which modules may import a library directly.
USERS = {
    "aiohttp": HTTP,
    "gunicorn": {"application", "arbiter", "fleet", "listeners", "settings", "worker"},
    "prometheus_client": {"meter", "metrics"},
    "msgspec": {"bodies", "config", "logconfig", "validation"},
    "ujson": {"responses"},
    "yaml": {"document"},
}


def imported(tree: ast.AST) -> set[str]:
    """Return the modules that ``tree`` imports, also inside functions, in full names."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            parts = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {part if part in SOURCES else str(node.module) for part in parts}
    return names


GRAPH = {name: imported(tree) for name, tree in TREES.items()}


def reached(name: str) -> set[str]:
    """Return ``name`` and all that it imports, directly or through this package."""
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            waiting += GRAPH.get(module, set())
    return seen


def libraries(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


def importers(module: str) -> set[str]:
    return {name for name, names in GRAPH.items() if module in names}


def test_the_package_was_read() -> None:
    assert {f"api_hour.{name}" for name in ("application", "config", "http")} <= SOURCES.keys()
    assert "api_hour.exceptions" in GRAPH["api_hour.config"]
    assert PLUGINS


@pytest.mark.parametrize("library", USERS)
def test_a_library_is_known_to_few_modules(library: str) -> None:
    users = {name for name, names in GRAPH.items() if library in libraries(names)} - PLUGINS
    assert users
    assert users <= {f"api_hour.{name}" for name in USERS[library]}


def test_the_container_imports_the_standard_library_only() -> None:
    names = GRAPH["api_hour.container"]
    assert names
    assert libraries(names) <= sys.stdlib_module_names


def test_the_exceptions_import_nothing() -> None:
    assert GRAPH["api_hour.exceptions"] == set()


@pytest.mark.parametrize("plugin", sorted(PLUGINS))
def test_a_plugin_works_without_the_rest(plugin: str) -> None:
    names = GRAPH[plugin]
    assert not libraries(names) & {"gunicorn", "aiohttp"}
    own = {name for name in names if name.startswith("api_hour")}
    assert own <= {"api_hour.exceptions", "api_hour.plugins"} | PLUGINS


def test_no_module_imports_a_plugin_but_another_plugin() -> None:
    assert {name for plugin in PLUGINS for name in importers(plugin)} <= PLUGINS


def test_the_command_line_stands_above_everything() -> None:
    assert {"api_hour.config", "api_hour.arbiter"} <= GRAPH["api_hour.application"]
    assert importers("api_hour.application") == {"api_hour.__main__"}
    assert importers("api_hour.arbiter") == {"api_hour.application"}


def test_the_process_manager_does_not_know_http() -> None:
    names = reached("api_hour.application")
    assert "api_hour.worker" in names
    assert "aiohttp" not in libraries(names)


@pytest.mark.parametrize("name", ["bodies", "http", "responses"])
def test_http_does_not_know_the_process_manager(name: str) -> None:
    names = reached(f"api_hour.{name}")
    assert "aiohttp" in libraries(names)
    assert "gunicorn" not in libraries(names)


def test_no_import_goes_round_in_a_circle() -> None:
    for name, names in GRAPH.items():
        for other in names & SOURCES.keys():
            assert name not in reached(other), f"{name} and {other} import each other"


@pytest.mark.parametrize("name", SOURCES)
def test_a_module_is_short(name: str) -> None:
    assert len(SOURCES[name].splitlines()) <= MAX_LINES


@pytest.mark.parametrize(
    "path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_a_module_begins_with_its_docstring(path: Path) -> None:
    assert path.read_text().startswith('"""')
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_half_of_the_functions_are_at_most_a_dozen_lines() -> None:
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    nodes = [node for tree in TREES.values() for node in ast.walk(tree) if isinstance(node, kinds)]
    assert median((node.end_lineno or 0) - node.lineno + 1 for node in nodes) <= MAX_MEDIAN


def modules_after(statement: str) -> set[str]:
    """Run ``statement`` in a fresh interpreter and return the modules that it loaded."""
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return set(done.stdout.split())


def test_the_package_alone_imports_no_library() -> None:
    names = modules_after("import api_hour")
    assert "api_hour" in names
    assert not libraries(names) & {*USERS, "uvloop", "multidict"}


def test_a_name_of_the_package_brings_only_what_it_needs() -> None:
    names = modules_after("from api_hour import ConfigError, Container")
    assert not libraries(names) & USERS.keys()
    names = modules_after("from api_hour import JSON")
    assert "aiohttp" in names
    assert "gunicorn" not in names


def test_the_command_line_imports_no_http() -> None:
    names = modules_after("import api_hour.application")
    assert "gunicorn" in names
    assert not libraries(names) & {"aiohttp", "ujson"}


@pytest.mark.parametrize("name", api_hour.__all__)
def test_every_public_name_is_there(name: str) -> None:
    value = getattr(api_hour, name)
    assert value.__module__.startswith("api_hour.")
    assert name in dir(api_hour)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"module 'api_hour' has no attribute 'nothing'"):
        _ = api_hour.nothing


def test_the_door_tells_type_checkers_the_same_names() -> None:
    tree = ast.parse((ROOT / "__init__.py").read_text())
    checked = next(node for node in tree.body if isinstance(node, ast.If))
    names = {
        alias.asname
        for node in checked.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert names == set(api_hour.__all__)
