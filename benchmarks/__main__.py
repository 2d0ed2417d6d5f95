"""The command: ``python -m benchmarks`` in the root of the repository."""

import argparse
import dataclasses
import datetime
import os
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from api_hour.exceptions import ConfigError
from api_hour.plugins import embedded
from benchmarks import kitchen, machine
from benchmarks.campaign import Campaign
from benchmarks.case import ALL
from benchmarks.contender import Contender, discover, program, select
from benchmarks.plan import MEASURES, Plan
from benchmarks.progress import say
from benchmarks.report.text import render
from benchmarks.results import Results

HERE = Path(__file__).parent
NEEDED = {"instructions": "valgrind", "cpu": "wrk"}  # programs, by what measures with them


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the contenders; return the exit code, which is 1 if one of them was left out."""
    options = _parse(arguments)
    found = discover()
    if options.list:
        print("\n".join(f"{name:20} {entry.title}" for name, entry in found.items()))
        return 0
    try:
        contenders = select(found, options.only)
        results = _run(_plan(options), contenders, options.output)
    except (LookupError, ConfigError) as error:
        say(f"benchmarks: error: {error}")
        return 2
    print(render(results))
    say(f"Wrote {options.output}; for the docs: python -m benchmarks.report {options.output}")
    return 1 if results.left_out else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure API-Hour beside other servers."
    )
    add = parser.add_argument
    add("--list", action="store_true", help="list the contenders and exit")
    add(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        help="measure only this contender; may be repeated",
    )
    add("--short", action="store_true", help="a quick run for CI, whose figures mean nothing")
    more: dict[str, Any] = {"action": "append", "help": "only this one; may be repeated"}
    add("--measure", dest="measures", choices=MEASURES, **more)
    add("--case", dest="cases", choices=ALL, **more)
    add("--rounds", type=_positive, metavar="N", help="rounds of load (default: 8)")
    add("--seconds", type=_positive, metavar="N", help="seconds per round (default: 3)")
    add(
        "--connections",
        type=_positive,
        action="append",
        metavar="N",
        help="under load (default: 64 and 400)",
    )
    add(
        "--requests",
        type=_positive,
        metavar="N",
        help="requests to count instructions of (default: 1000)",
    )
    add("--idle", type=_positive, metavar="N", help="idle connections (default: 10000)")
    add("--port", type=int, default=25000, help="of the first contender (default: %(default)s)")
    add(
        "--venvs",
        type=Path,
        default=HERE / ".venvs",
        metavar="DIR",
        help="for the environments (default: benchmarks/.venvs)",
    )
    add("--here", action="store_true", help="measure what this Python's environment has")
    add(
        "--output",
        type=Path,
        default=Path("build/benchmarks.json"),
        help="for the results (default: %(default)s)",
    )
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    """Return the integer; raise ArgumentTypeError unless it is positive."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def _plan(options: argparse.Namespace) -> Plan:
    """Return the plan; raise LookupError if a program that it needs is missing."""
    sizes = {field.name for field in dataclasses.fields(Plan)}
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in vars(options).items()
        if name in sizes and value is not None
    }
    plan = Plan.short(**given) if options.short else Plan(**given)
    wanted = {NEEDED[name] for name in plan.measures if name in NEEDED}
    if missing := " ".join(sorted(name for name in wanted if program(name) is None)):
        raise LookupError(f"not installed: {missing}; on Debian: sudo apt-get install {missing}")
    return plan


def _run(plan: Plan, contenders: list[Contender], output: Path) -> Results:
    results = Results(
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        command=shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]]),
        commit=machine.commit(),
        machine=machine.describe(),
    )
    campaign = Campaign(plan, results, lambda: results.write(output))
    needed = any(contender.needs_database for contender in contenders)
    with _database(plan) if needed else nullcontext("") as url:
        campaign.run(contenders, url)
    return results


@contextmanager
def _database(plan: Plan) -> Iterator[str]:
    """Yield the URL of a PostgreSQL with the kitchen table, kept off the server's core."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, plan.cpus.load)
    try:
        with embedded.postgresql(plan.venvs / "postgresql", own=True) as server:
            os.sched_setaffinity(0, cores)
            kitchen.create(server.url)
            yield server.url
    finally:
        os.sched_setaffinity(0, cores)


if __name__ == "__main__":
    # Like Ctrl-C: leave the `with` blocks, which stop the contenders.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(main())
