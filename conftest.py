"""Every test begins with default signals, and tests that share much run in one process.

nohup and a background shell ignore some signals. `make test` runs two processes: some of the
template's tests share installed projects, those of a file share servers, and only the faults of the
chaos suite, which mostly wait, are dealt out one by one. The groups that take longest come first.
"""

import re
import signal
from collections import Counter
from collections.abc import Generator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent
SHARING = ("ci_files", "release", "running", "systemd_units")
INSTALLED = {ROOT / "tests" / f"test_{name}.py" for name in SHARING}
LONGEST = ["template", "tests/test_container.py", "tests/test_readme.py"]

# Why tests skip where a program is missing: "wrk is not installed", "... without root, buildah".
MISSING = re.compile(r"(?P<program>[\w.-]+) is not installed|without (?P<list>[\w., -]+)$")

signal.signal(signal.SIGINT, signal.default_int_handler)
for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
    signal.signal(number, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group the tests for pytest-xdist."""
    items.sort(key=lambda item: [_group(item) != group for group in LONGEST])
    for item in items:
        if item.path.name != "test_chaos.py":
            item.add_marker(pytest.mark.xdist_group(_group(item)))


def _group(item: pytest.Item) -> str:
    return "template" if item.path in INSTALLED else str(item.path.relative_to(ROOT))


@pytest.hookimpl(wrapper=True, tryfirst=True)  # so that the line comes last
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter,
) -> Generator[None, None, None]:
    """Say in one line how many tests were skipped for which missing programs."""
    yield
    counts: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        if found := MISSING.search(reason):
            counts[found["program"] or found["list"]] += 1
    if counts:
        each = "; ".join(f"{count} without {names}" for names, count in counts.most_common())
        terminalreporter.write_line(f"Skipped, because programs are missing: {each}")
