"""Run one scenario and judge what it cost."""

import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from runtime.tests.chaos.account import Allowance, describe, lost_of, percentile
from runtime.tests.chaos.harness import WORKERS, Form, Harness
from testkit.load import Profile, Record

LOG = 120  # lines of the daemons' logs that a failure shows


@dataclass(frozen=True)
class Scenario:
    """A fault, the load during it, and what it may cost."""

    name: str
    fault: Callable[[Harness], None]
    options: tuple[str, ...] = ()  # of the command line
    window: float = 0.0  # seconds of drain_idle, if the form's are too few
    load: Profile | None = field(default_factory=Profile)
    allowance: Allowance = field(default_factory=Allowance)
    held: bool = False  # whether the test keeps the listening socket
    boots: bool = True  # False if the fault starts the daemon itself
    prepare: Callable[[Harness], None] | None = None
    slow: bool = False  # whether the short form takes more than ten seconds, too


@dataclass
class Result:
    """What a scenario cost and measured."""

    scenario: Scenario
    records: list[Record]
    notes: list[str]
    problem: str = ""
    details: str = ""

    @property
    def lost(self) -> int:
        """Return the number of requests that were not answered."""
        return len(lost_of(self.records))

    @property
    def outcomes(self) -> str:
        """Return how they were lost."""
        counts = Counter(record.outcome for record in lost_of(self.records))
        return ", ".join(f"{count} {outcome}" for outcome, count in counts.items())

    @property
    def p99(self) -> float:
        """Return the latency in seconds that 99 of 100 responses did not exceed."""
        return percentile(self.records, 0.99)


def run(scenario: Scenario, folder: Path, form: Form) -> Result:
    """Run the daemon, the load and the fault; a failure is in the result, with the log."""
    with Harness(folder, form) as harness:
        failure = _perform(scenario, harness)
        records = [record for load in harness.loads for record in load.records]
        drops = [idle for load in harness.loads for idle in load.drops if idle < load.window]
        excess = scenario.allowance.excess(records, drops)
        problem = "; ".join(filter(None, (failure.partition("\n")[0], excess)))
        result = Result(scenario, records, harness.notes, problem)
        if problem:
            log = [line for daemon in harness.daemons for line in daemon.lines]
            shown = log if len(log) <= LOG else [*log[: LOG // 2], "...", *log[-LOG // 2 :]]
            result.details = "\n".join([failure, describe(records, harness.project), *shown])
        return result


def _perform(scenario: Scenario, harness: Harness) -> str:
    """Go through the scenario; return what failed, and where."""
    try:
        _set_up(scenario, harness)
        scenario.fault(harness)
        harness.finish()
    except Exception as error:
        first = (str(error) or type(error).__name__).partition("\n")[0]
        return first + "\n" + "".join(traceback.format_exception(error))
    finally:
        harness.stop_loads()
    return ""


def _set_up(scenario: Scenario, harness: Harness) -> None:
    harness.options = scenario.options
    harness.window = max(scenario.window, harness.window)
    if scenario.held:
        harness.hold_socket()
    if scenario.prepare:
        scenario.prepare(harness)
    if scenario.boots:
        harness.start_daemon().ready(WORKERS)
    if scenario.load:
        harness.start_load(scenario.load)
        harness.calm()
