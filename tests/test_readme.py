"""The pages of the repository say what is so; nothing here knows the starter kit's own tests."""

import http.client
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "all_in_one.py"
README = (ROOT / "README.rst").read_text()
PAGES = ["README.rst", "CONTRIBUTING.rst", "CHANGELOG.rst", "runtime/README.rst"]
FIRST_SCREEN = README.split("\nWords\n")[0]


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
def test_the_first_screen_of_the_readme_holds(sought: str) -> None:
    assert sought in FIRST_SCREEN


def test_the_first_screen_of_the_readme_is_one_screen() -> None:
    assert len(FIRST_SCREEN.splitlines()) <= 55


def test_the_daemon_of_the_readme_answers_as_shown() -> None:
    shown = re.search(r"\$ curl http://127\.0\.0\.1:8000(/\S*)\n +(.+)\n", README)
    assert shown
    with _daemon("all_in_one:Container") as port:
        assert _get(port, shown[1]) == (200, "application/json; charset=utf-8", shown[2])


def test_a_verb_that_a_page_names_is_a_verb_of_the_makefile() -> None:
    pages = "\n".join((ROOT / page).read_text() for page in PAGES)
    named = set(re.findall(r"\bmake ([a-z-]+)", "\n".join(re.findall(r"``[^`]+``|\$ .+", pages))))
    assert {"run", "test"} <= named <= _verbs()


def test_a_verb_of_the_makefile_is_named_by_the_contributors_page() -> None:
    page = (ROOT / "CONTRIBUTING.rst").read_text()
    assert [verb for verb in _verbs() - {"help"} if f"``make {verb}``" not in page] == []


def test_the_layout_names_what_is_there() -> None:
    layout = README.split("\nLayout\n")[1].split("\nRead on\n")[0]
    paths = re.findall(r"``([^`]+/|[^`]+\.json)``", layout)
    assert "runtime/" in paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


def _blocks(page: str, language: str) -> list[str]:
    """Return the code blocks of one language, without their indentation."""
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
    """Serve an example on a free port; ended by TERM, it must exit with 0."""
    command = [sys.executable, "-m", "api_hour", spec, "--listen", "http=tcp://127.0.0.1:0"]
    process = subprocess.Popen(command, cwd=EXAMPLE.parent, stderr=subprocess.PIPE, text=True)
    try:
        yield _port(process)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30)
        assert process.returncode == 0, log
    finally:
        process.kill()
        process.communicate()


def _port(process: subprocess.Popen[str]) -> int:
    """Read the log until a worker is ready; return the port that the log names."""
    assert process.stderr
    log = ""
    for line in process.stderr:
        log += line
        if "Worker ready" in line:
            break
    found = re.search(r"Listening on http at tcp://127\.0\.0\.1:(\d+)", log)
    assert found, log
    return int(found[1])


def _get(port: int, path: str) -> tuple[int, str | None, str]:
    """Return the status, the type and the body of one request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.getheader("Content-Type"), response.read().decode()
    finally:
        connection.close()
