"""Inject faults into a real daemon under load, and account for every single request.

``make chaos`` plays every scenario in full and prints one table; ``test_chaos.py`` plays each in
its short form. The suite knows the daemon as clients and supervisors do: by its sockets, its
signals, its exit code and its log.
"""

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from runtime.tests.chaos.play import Result, Scenario, play
from runtime.tests.chaos.scenarios import SCENARIOS
from runtime.tests.chaos.stage import FULL, SHORT, Form

ROW = "{:48} {:>8} {:>6}  {:32} {:>8}  {}"


def main() -> int:
    """Return 1 when a scenario cost more than it may."""
    parser = argparse.ArgumentParser(prog="python -m runtime.tests.chaos", description=__doc__)
    parser.add_argument("words", nargs="*", metavar="WORD", help="only names that hold a word")
    parser.add_argument("--loop", default="auto", choices=("auto", "uvloop", "asyncio"))
    parser.add_argument("--short", action="store_true", help="the form that the tests play")
    parser.add_argument("--times", type=int, default=1, metavar="N", help="play each so often")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # leave no daemon behind
    form = SHORT if arguments.short else FULL
    form = Form(form.window, form.calm, arguments.loop)
    chosen = [
        one
        for one in SCENARIOS
        for _ in range(arguments.times)
        if not arguments.words or any(word in one.name for word in arguments.words)
    ]
    print(ROW.format("fault", "requests", "lost", "class", "p99", "verdict"), flush=True)
    failed = [result for result in (_row(one, form) for one in chosen) if result.problem]
    for result in failed:
        print(f"\n{result.scenario.name}: {result.problem}\n{result.details}")
    return 1 if failed or not chosen else 0


def _row(scenario: Scenario, form: Form) -> Result:
    missing = scenario.missing()
    if missing:
        result = Result(scenario, [], [f"missing: {', '.join(missing)}"])
    else:
        with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
            result = play(scenario, Path(folder), form)
    verdict = "; ".join([result.problem or "skipped" * bool(missing) or "good", *result.notes])
    p99 = f"{result.p99 * 1000:.0f} ms" if result.p99 else "-"
    cells = (scenario.name, len(result.records), result.lost, result.classes or "-", p99, verdict)
    print(ROW.format(*cells), flush=True)
    return result


if __name__ == "__main__":
    sys.exit(main())
