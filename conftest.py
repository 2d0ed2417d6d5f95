"""Every test begins with default signals, and tests that share much run in one process.

nohup and a background shell ignore some signals. `make test` runs two processes, and deals out the
tests of a file together, since they share servers. Two of the template's files are dealt out
together, too, since they share an installed project; the faults of the chaos suite, which mostly
wait, are dealt out one by one. What takes longest comes first.
"""

import re
import signal
from collections import Counter
from collections.abc import Generator

import pytest
from xdist.remote import Producer
from xdist.scheduler.loadscope import LoadScopeScheduling
from xdist.workermanage import WorkerController

SHARING = ("tests/test_release.py", "tests/test_container.py")  # an installed project
ALONE = "runtime/tests/chaos/test_chaos.py"
LONGEST = ["release", "tests/test_running.py"]

# Why tests skip where a program is missing: "wrk is not installed", "... without root, buildah".
MISSING = re.compile(r"(?P<program>[\w.-]+) is not installed|without (?P<list>[\w., -]+)$")

signal.signal(signal.SIGINT, signal.default_int_handler)
for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
    signal.signal(number, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the groups that take longest first, and the single tests last, where they fill gaps."""
    items.sort(key=lambda item: _place(_group(item.nodeid)))


class Groups(LoadScopeScheduling):
    """Deals out groups of tests, also when a process has died.

    The mark ``xdist_group`` of pytest-xdist 3.8 has no effect in pytest 9.2. Its ``loadscope``
    gives the successor of a dead process too little to begin with, and the run hangs.
    """

    def _split_scope(self, nodeid: str) -> str:
        return _group(nodeid)

    def schedule(self) -> None:
        """Give each process two groups: it runs a test only when it knows the next one."""
        super().schedule()
        for node in self.nodes:
            self._reschedule(node)

    def remove_node(self, node: WorkerController) -> str | None:
        """Deal out what a process leaves behind, but no group that it has finished."""
        work = self.assigned_work[node]
        for group in [group for group, tests in work.items() if all(tests.values())]:
            del work[group]
        return super().remove_node(node)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling | None:
    """Deal out our groups, in our order, where pytest-xdist would deal out modules."""
    if config.getvalue("dist") != "loadscope":
        return None
    config.option.loadscopereorder = False
    return Groups(config, log)


def _group(nodeid: str) -> str:
    file = nodeid.partition("::")[0]
    if file in SHARING:
        return "release"
    return nodeid if file == ALONE else file


def _place(group: str) -> int:
    if group in LONGEST:
        return LONGEST.index(group)
    return len(LONGEST) + group.startswith(ALONE)


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
