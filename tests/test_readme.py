"""The repository's pages are true, and its Makefile does in a clone what they say."""

import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from testkit.git_server import serve_template
from testkit.processes import Daemon
from testkit.projects import INSTALLING, ROOT, Project, ask, git

EXAMPLE = ROOT / "examples" / "all_in_one.py"
README = (ROOT / "README.rst").read_text()
PAGES = [
    *("README.rst", "CONTRIBUTING.rst", "CHANGELOG.rst", "runtime/README.rst"),
    *("SECURITY.rst", "examples/README.rst", "benchmarks/README.rst"),
]
FIRST_SCREEN = README.split("\nWords\n")[0]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory, offline: dict[str, str]) -> Project:
    """Return a fresh clone of this repository."""
    folder = tmp_path_factory.mktemp("clone")
    with serve_template(folder) as address:
        git(folder, "clone", "--quiet", address, "clone")
    return Project(folder / "clone", offline)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_valid_restructured_text(page: str) -> None:
    command = [sys.executable, "-m", "docutils", "--halt=warning", page]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_the_code_of_the_readme_is_the_example() -> None:
    assert _blocks(README, "python") == [EXAMPLE.read_text()]


def test_the_example_has_fifteen_lines_at_most() -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 15


def test_the_page_of_the_runtime_shows_the_same_daemon() -> None:
    (block,) = _blocks((ROOT / "runtime" / "README.rst").read_text(), "python")
    assert EXAMPLE.read_text().endswith(block)


@pytest.mark.parametrize(
    "sought",
    ["$ make run", "$ make test", "$ cookiecutter ", "socket -> server -> endpoint -> service"],
)
def test_the_first_screen_of_the_readme_contains(sought: str) -> None:
    assert sought in FIRST_SCREEN


def test_the_first_screen_of_the_readme_is_one_screen() -> None:
    assert len(FIRST_SCREEN.splitlines()) <= 55


def test_the_daemon_of_the_readme_answers_as_shown() -> None:
    shown = re.search(r"\$ curl http://127\.0\.0\.1:8000(/\S*)\n +(.+)\n", README)
    assert shown
    with _daemon("all_in_one:Container") as port:
        answer = ask(port, shown[1])
        assert (answer.status, answer.body.decode()) == (200, shown[2])
        assert answer.headers["Content-Type"] == "application/json; charset=utf-8"


@pytest.mark.slow
@pytest.mark.timeout(900)  # it installs
def test_make_run_in_a_clone_serves_until_its_child_is_killed(clone: Project) -> None:
    with clone.running(timeout=INSTALLING) as run:
        steps = re.findall(r"^(Making|Installing|Baking|Building) ", run.console, re.MULTILINE)
        assert steps == ["Making", "Installing", "Baking", "Making", "Building", "Installing"]
        assert run.ask("/").json() == {"message": "Hello, World!"}
        assert run.ask("/records", "POST", {"name": "first"}).status == 201
        run.child.kill()
        run.leaves_nothing()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_make_run_in_a_clone_serves_again_until_ctrl_c(clone: Project) -> None:
    with clone.running(timeout=INSTALLING) as run:
        assert run.ask("/").status == 200
        run.press_ctrl_c()
        run.leaves_nothing()
        assert run.process.returncode == 0
    with clone.running() as run:
        assert not re.search(r"^(Making|Installing|Baking|Building) ", run.console, re.MULTILINE)
        assert run.ask("/records").status == 200
        run.process.terminate()
        run.leaves_nothing()
    assert git(clone.folder, "status", "--porcelain") == ""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_make_bake_keeps_the_project_before(clone: Project) -> None:
    clone.succeed("bake")
    (clone.folder / "build" / "hello" / "mine.txt").write_text("mine")
    clone.succeed("bake")
    assert not (clone.folder / "build" / "hello" / "mine.txt").exists()
    assert (clone.folder / "build" / "hello.before" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("python", "said"),
    [
        ("import sys; sys.version_info, sys.version = (3, 9), '3.9.18 (old)'", "is 3.9.18: name"),
        ("import sys; sys.modules['ensurepip'] = None", "apt install python3-venv"),
    ],
)
def test_an_unusable_python_is_refused_with_the_cure(
    python: str, said: str, tmp_path: Path
) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copy(ROOT / "requirements.txt", tmp_path)
    program = tmp_path / "python"
    program.write_text(f"""#!/bin/sh\n"{sys.executable}" -c "{python}; $2"\n""")
    program.chmod(0o755)
    result = Project(tmp_path).make("run", f"PYTHON={program}")
    assert result.returncode == 2
    assert said in result.stderr
    assert not (tmp_path / ".venv").exists()


def test_every_verb_on_a_page_is_in_the_makefile() -> None:
    pages = "\n".join((ROOT / page).read_text() for page in PAGES)
    named = set(re.findall(r"\bmake ([a-z-]+)", "\n".join(re.findall(r"``[^`]+``|\$ .+", pages))))
    assert {"run", "test"} <= named <= _verbs()


def test_every_verb_of_the_makefile_is_on_the_contributors_page() -> None:
    page = (ROOT / "CONTRIBUTING.rst").read_text()
    assert [verb for verb in _verbs() - {"help"} if f"``make {verb}``" not in page] == []


def test_the_layout_names_what_exists() -> None:
    layout = README.split("\nLayout\n")[1].split("\nRead on\n")[0]
    paths = re.findall(r"``([^`]+/|[^`]+\.json)``", layout)
    assert "runtime/" in paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


def _blocks(page: str, language: str) -> list[str]:
    """Return the code blocks of one language, unindented."""
    pattern = rf"^\.\. code-block:: {language}\n\n((?: {{4}}.*\n|\n)+)"
    found = re.findall(pattern, page, re.MULTILINE)
    return [textwrap.dedent(block).strip("\n") + "\n" for block in found]


def _verbs() -> set[str]:
    """Return the verbs that ``make help`` lists."""
    command = ["make", "--no-print-directory", "help"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return set(re.findall(r"^make ([a-z-]+) ", listing.stdout, re.MULTILINE))


@contextmanager
def _daemon(spec: str) -> Iterator[int]:
    """Serve an example on a free port; at TERM it must exit with 0."""
    with Daemon(EXAMPLE.parent, spec, "--listen", "http=tcp://127.0.0.1:0") as daemon:
        yield daemon.ready().port()
        assert daemon.stop() == 0
