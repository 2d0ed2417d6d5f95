"""The command: ``python -m benchmarks.behaviour`` in the root of the repository."""

import argparse
import datetime
import os
import platform
import shlex
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.behaviour import features, trials
from benchmarks.behaviour.declaration import HERE, Entrant, discover
from benchmarks.behaviour.facts import Facts, Machine, Results
from benchmarks.behaviour.subject import NotServing
from benchmarks.behaviour.table import PAGE, render
from benchmarks.behaviour.trials import Form
from benchmarks.installation import InstallationError
from benchmarks.machine import kernel
from benchmarks.progress import say, track

# Packages whose version is the server's, in this order: API-Hour installs Gunicorn, too.
NAMES = ("api-hour-runtime", "gunicorn", "uvicorn", "granian", "hypercorn", "uwsgi")
TRIALS: dict[str, Callable[[Entrant, Form], Any]] = {
    "reload": trials.reload,
    "broken": trials.broken,
    "stop": trials.stop,
    "crash": trials.crash,
    "blocked": trials.block,
    "raises": lambda entrant, form: trials.fail(entrant, form, trials.RAISES),
    "dies": lambda entrant, form: trials.fail(entrant, form, trials.DIES),
    "several": lambda entrant, _: features.several(entrant),
    "metrics": lambda entrant, _: features.metrics(entrant),
    "hook": trials.hook,
    "removed": trials.remove,
    "full": trials.fill,
    "frozen": trials.freeze,
    "stale": trials.leave_pid_file,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Put the servers on trial; return the exit code, which is 1 if one could not be tried."""
    options = _parse(arguments)
    try:
        entrants = discover(options.venvs, options.only, here=options.here)
    except LookupError as error:
        say(f"behaviour: error: {error}")
        return 2
    results = _new()
    if options.keep:
        known = Results.read(options.output)
        commands = dict.fromkeys([*known.command.split("; "), results.command])  # each one once
        results.servers, results.command = known.servers, "; ".join(commands)
        if results.date not in known.date:
            results.date = f"{known.date} and {results.date}"
        else:
            results.date = known.date
    for entrant in entrants:
        results.servers[entrant.name] = _install(entrant, results.servers.get(entrant.name))
    steps = [(entrant, name) for entrant in entrants for name in options.trials or TRIALS]
    for entrant, name in track(steps, lambda step: f"{step[0].name}: {step[1]}"):
        _run_trial(results.servers[entrant.name], entrant, name)
        results.write(options.output)
    options.page.write_text(render(results))
    say(f"Wrote {options.output} and {options.page}")
    return 1 if any(facts.reason for facts in results.servers.values()) else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.behaviour", description="Try how servers behave under faults."
    )
    add = parser.add_argument
    add(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        help="try only this server; may be repeated",
    )
    more: dict[str, Any] = {"action": "append", "help": "only this one; may be repeated"}
    add("--trial", dest="trials", choices=TRIALS, **more)
    add("--keep", action="store_true", help="keep the results of other servers and trials")
    add("--here", action="store_true", help="use what this Python's environment has")
    venvs = HERE.parent / ".venvs" / "behaviour"
    add(
        "--venvs",
        type=Path,
        default=venvs,
        metavar="DIR",
        help="(default: benchmarks/.venvs/behaviour)",
    )
    output = HERE / "results.json"
    add("--output", type=Path, default=output, help="(default: benchmarks/behaviour/results.json)")
    add("--page", type=Path, default=PAGE, help=f"(default: docs/explanation/{PAGE.name})")
    return parser.parse_args(arguments)


def _new() -> Results:
    machine = Machine(
        cores=len(os.sched_getaffinity(0)),
        kernel=kernel(),
        python=platform.python_version(),
    )
    return Results(
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        command=shlex.join(["python", "-m", "benchmarks.behaviour", *sys.argv[1:]]),
        machine=machine,
        rate=Form().rate,
    )


def _install(entrant: Entrant, known: Facts | None) -> Facts:
    """Install a server; return what is known of it, with its versions and command lines."""
    declared = entrant.declaration
    facts = known or Facts(declared.title, "", {}, {}, declared.reload)
    facts.reason = ""
    commands = {
        "serve": declared.command,
        "several": declared.several,
        "metrics": declared.metrics,
        "removed": declared.linked,
        "full": declared.logged,
        "stale": [*declared.command, *declared.pid] if declared.pid else (),
        "reload by pid file": declared.reload_by_pid,
    }
    shown = {"bin": "", "port": 8000, "tcp": 8001, "udp": 8002, "current": "current", "pid": "pid"}
    facts.commands = {
        name: shlex.join(word.format(**shown).removeprefix("/") for word in words)
        for name, words in commands.items()
        if words
    }
    try:
        entrant.installation.make()
        facts.versions = entrant.installation.versions()
        facts.version = _version(facts.versions)
    except InstallationError as error:
        facts.reason = f"not installed: {error}"
    return facts


def _version(versions: Mapping[str, str]) -> str:
    """Return the version of the server, by its packages."""
    installed = {name.lower(): number for name, number in versions.items()}
    return next(installed[name] for name in NAMES if name in installed)


def _run_trial(facts: Facts, entrant: Entrant, name: str) -> None:
    if facts.reason.startswith("not installed"):
        return
    try:
        setattr(facts, name, TRIALS[name](entrant, Form()))
    except (NotServing, OSError, ExceptionGroup) as error:
        facts.reason = f"{name}: {error}"
        say(f"{entrant.name}: {facts.reason}")


if __name__ == "__main__":
    # Like Ctrl-C: leave the `with` blocks, which stop the servers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(main())
