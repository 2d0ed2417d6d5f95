"""Every test begins with default signals, and tests that share much run in one process.

nohup and a background shell ignore some signals. `make test` runs two processes: some of the
template's tests share installed projects, which take longest and so come first; those of a file
share servers, and only the faults of the chaos suite, which mostly wait, are dealt out one by one.
"""

import signal
from pathlib import Path

import pytest

ROOT = Path(__file__).parent
SHARING = ("ci_files", "container", "readme", "release", "running", "systemd_units")
INSTALLED = {ROOT / "tests" / f"test_{name}.py" for name in SHARING}

signal.signal(signal.SIGINT, signal.default_int_handler)
for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
    signal.signal(number, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group the tests for pytest-xdist."""
    items.sort(key=lambda item: item.path not in INSTALLED)
    for item in items:
        if item.path.name != "test_chaos.py":
            group = "template" if item.path in INSTALLED else str(item.path.relative_to(ROOT))
            item.add_marker(pytest.mark.xdist_group(group))
