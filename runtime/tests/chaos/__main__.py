"""Inject faults into a real daemon under load, and account for every single request.

``make chaos`` runs every scenario in full and prints a table; ``test_chaos.py`` runs each in its
short form. The suite knows the daemon as clients and supervisors do: by its sockets, its signals,
its exit code and its log.
"""

import argparse
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from runtime.tests.chaos.harness import FULL, SHORT, Form
from runtime.tests.chaos.runner import Result, Scenario, run
from runtime.tests.chaos.scenarios import SCENARIOS

ROW = "{:56} {:>8} {:>6}  {:32} {:>8}  {}"


def main() -> int:
    """Return 1 if a scenario cost more than its allowance."""
    parser = argparse.ArgumentParser(prog="python -m runtime.tests.chaos", description=__doc__)
    parser.add_argument("words", nargs="*", metavar="WORD", help="only names with one of the words")
    parser.add_argument("--loop", default="auto", choices=("auto", "uvloop", "asyncio"))
    parser.add_argument("--short", action="store_true", help="the form that the tests run")
    parser.add_argument("--times", type=int, default=1, metavar="N", help="run each N times")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # leave no daemon behind
    form = SHORT if arguments.short else FULL
    form = replace(form, loop=arguments.loop)
    chosen = [
        scenario
        for scenario in SCENARIOS
        for _ in range(arguments.times)
        if not arguments.words or any(word in scenario.name for word in arguments.words)
    ]
    print(ROW.format("fault", "requests", "lost", "outcome", "p99", "verdict"), flush=True)
    results = [_run_and_print(scenario, form) for scenario in chosen]
    failed = [result for result in results if result.problem]
    for result in failed:
        print(f"\n{result.scenario.name}: {result.problem}\n{result.details}")
    return 1 if failed or not chosen else 0


def _run_and_print(scenario: Scenario, form: Form) -> Result:
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        result = run(scenario, Path(folder), form)
    verdict = "; ".join([result.problem or "good", *result.notes])
    p99 = f"{result.p99 * 1000:.0f} ms" if result.p99 else "-"
    cells = (scenario.name, len(result.records), result.lost, result.outcomes or "-", p99, verdict)
    print(ROW.format(*cells), flush=True)
    return result


if __name__ == "__main__":
    sys.exit(main())
