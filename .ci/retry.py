"""Run pytest; run the tests that failed once more, by themselves, in a process of their own.

    python .ci/retry.py [pytest's arguments]

If all of them pass then, the run passes, and a line ``FLAKY: test`` names each one for people, who
mend the race. Everything else fails: a test that fails twice, more than ``MOST`` failures (that is
a real breakage, so the first run stops there), and whatever is not the failure of a test: a file
that cannot be imported, a usage error, an internal error, no test at all.
"""

import subprocess
import sys

import pytest

MOST = 10  # failed tests that may be races


class Failures:
    """A plugin that only takes notes: what failed, also what passed in a worker's second life."""

    def __init__(self) -> None:
        self.tests: list[str] = []
        self.collecting = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a test of which the set-up, the call or the tear-down failed, or the worker died."""
        if report.failed and report.nodeid not in self.tests:
            self.tests.append(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note that a file could not be imported."""
        self.collecting = self.collecting or report.failed

    def may_be_races(self) -> bool:
        """Tell whether a second run can tell more."""
        return not self.collecting and 0 < len(self.tests) <= MOST


def main(arguments: list[str]) -> int:
    """Return the exit status of a run in which a test may fail once."""
    failures = Failures()
    status = pytest.main([f"--maxfail={MOST + 1}", *arguments], plugins=[failures])
    if status != pytest.ExitCode.TESTS_FAILED or not failures.may_be_races():
        return status
    print(f"\nOnce more, by themselves: {len(failures.tests)} that failed", flush=True)
    command = [sys.executable, "-m", "pytest", "--exitfirst", *failures.tests]
    again = subprocess.run(command, check=False).returncode  # noqa: S603
    if again == 0:
        print(*(f"FLAKY: {name}" for name in failures.tests), sep="\n", flush=True)
    return again


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
