"""The test trees stay apart: each imports itself and testkit, and unit tests start no process."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TREES = (
    "runtime/tests",
    "tests",
    "examples/tests",
    "docs/tests",
    "benchmarks/tests",
    "benchmarks/techempower/tests",
    "style/tests",
    "testkit",
)
STARTS_PROCESSES = {
    *("subprocess", "multiprocessing", "os.fork", "os.posix_spawn", "pty"),
    *("testkit.processes", "testkit.projects", "testkit.git_server", "testkit.disk"),
}


def files(tree: str) -> list[Path]:
    return sorted((ROOT / tree).rglob("*.py"))


def imported(file: Path) -> Iterator[str]:
    """Yield the module, and the dotted name, of everything that a file imports."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{node.value.id}.{node.attr}"  # os.fork


def is_in(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


@pytest.mark.parametrize("tree", TREES)
def test_a_tree_imports_no_other_tree(tree: str) -> None:
    assert files(tree)
    others = {other.replace("/", ".") for other in TREES} - {tree.replace("/", "."), "testkit"}
    wrong = {
        f"{file.relative_to(ROOT)}: {name}"
        for file in files(tree)
        for name in imported(file)
        if any(is_in(name, other) for other in others)
    }
    assert not wrong


@pytest.mark.parametrize(
    "file", files("runtime/tests/unit"), ids=lambda file: str(file.relative_to(ROOT))
)
def test_a_unit_test_starts_no_process(file: Path) -> None:
    assert not {
        name for name in imported(file) if any(is_in(name, one) for one in STARTS_PROCESSES)
    }
