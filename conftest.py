"""Every test begins with default signals, and tests that share much run in one process.

nohup and a background shell ignore some signals. `make test` runs two processes: the template's
tests share installed projects, those of a file share servers, and only the faults of the chaos
suite, which mostly wait, are dealt out one by one.
"""

import signal
from pathlib import Path

import pytest

ROOT = Path(__file__).parent

signal.signal(signal.SIGINT, signal.default_int_handler)
for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
    signal.signal(number, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group the tests for pytest-xdist."""
    for item in items:
        path = item.path.relative_to(ROOT)
        if path.name != "test_chaos.py":
            group = "template" if path.parts[0] == "tests" else str(path)
            item.add_marker(pytest.mark.xdist_group(group))
