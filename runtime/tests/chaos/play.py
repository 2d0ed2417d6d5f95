"""Play one scenario on a stage of its own, and judge what it cost."""

import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from gunicorn.config import Config

import api_hour.config.settings  # noqa: F401 - it registers the settings that Config() knows
from runtime.tests.chaos.account import Loss, describe, lost_of, percentile
from runtime.tests.chaos.stage import WORKERS, Form, Stage
from testkit.load import Profile, Record

LOG = 120  # lines of the daemon's log that a failure shows


@dataclass(frozen=True)
class Scenario:
    """Describe one fault, the load that it meets, and what it may cost."""

    name: str
    fault: Callable[[Stage], None]
    options: tuple[str, ...] = ()  # of the command line
    window: float = 0.0  # seconds of drain_idle, where the form's are too few
    load: Profile | None = field(default_factory=Profile)
    loss: Loss = field(default_factory=Loss)
    held: bool = False  # the test keeps the listening socket
    boots: bool = True  # else the fault starts the daemon itself
    prepare: Callable[[Stage], None] | None = None
    slow: bool = False  # more than ten seconds, also in the short form
    needs: tuple[str, ...] = ()  # settings, or modules by their full name

    def missing(self) -> list[str]:
        """Return what the runtime does not have yet."""
        known = Config().settings
        return [
            name for name in self.needs if not (find_spec(name) if "." in name else name in known)
        ]


@dataclass
class Result:
    """Hold what a scenario cost and what it measured."""

    scenario: Scenario
    records: list[Record]
    notes: list[str]
    problem: str = ""
    details: str = ""

    @property
    def lost(self) -> int:
        """Return how many requests were not answered."""
        return len(lost_of(self.records))

    @property
    def classes(self) -> str:
        """Return how they were lost."""
        counts = Counter(one.outcome for one in lost_of(self.records))
        return ", ".join(f"{count} {outcome}" for outcome, count in counts.items())

    @property
    def p99(self) -> float:
        """Return the seconds below which 99 of 100 answers stayed."""
        return percentile(self.records, 0.99)


def play(scenario: Scenario, folder: Path, form: Form) -> Result:
    """Run the daemon, the load and the fault; whatever fails is in the result, with the log."""
    with Stage(folder, form) as stage:
        trouble = _perform(scenario, stage)
        records = [record for load in stage.loads for record in load.records]
        drops = [idle for load in stage.loads for idle in load.drops if idle < load.window]
        excess = scenario.loss.excess(records, drops)
        problem = "; ".join(filter(None, (trouble.partition("\n")[0], excess)))
        result = Result(scenario, records, stage.notes, problem)
        if problem:
            log = [line for daemon in stage.daemons for line in daemon.lines]
            shown = log if len(log) <= LOG else [*log[: LOG // 2], "...", *log[-LOG // 2 :]]
            result.details = "\n".join([trouble, describe(records, stage.project), *shown])
        return result


def _perform(scenario: Scenario, stage: Stage) -> str:
    """Go through the scenario; return what failed, and where."""
    try:
        _set_up(scenario, stage)
        scenario.fault(stage)
        stage.finish()
    except Exception as error:
        first = (str(error) or type(error).__name__).partition("\n")[0]
        return first + "\n" + "".join(traceback.format_exception(error))
    finally:
        stage.end_loads()
    return ""


def _set_up(scenario: Scenario, stage: Stage) -> None:
    stage.options = scenario.options
    stage.window = max(scenario.window, stage.window)
    if scenario.held:
        stage.hold()
    if scenario.prepare:
        scenario.prepare(stage)
    if scenario.boots:
        stage.launch().ready(WORKERS)
    if scenario.load:
        stage.run(scenario.load)
        stage.calm()
