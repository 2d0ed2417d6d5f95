"""The command ``python -m api_hour.plugins.embedded``: run COMMAND with a PostgreSQL."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from shutil import which

from api_hour.exceptions import ConfigError
from api_hour.plugins import embedded
from api_hour.plugins.embedded.cluster import Cluster, InUse, running, say
from api_hour.plugins.embedded.job import STOPPING, ForegroundJob, SignalQueue


def main(arguments: Sequence[str] | None = None) -> int:
    """Run COMMAND, or only the server, and return the exit code."""
    options = _parse(arguments)
    command: list[str] = options.command
    if command[:1] == ["--"]:
        del command[0]
    if command and which(command[0]) is None:
        say(f"{command[0]}: command not found")
        return 127
    if url := os.environ.get("DATABASE_URL"):
        return _without_server(command, url)
    signals = SignalQueue()
    if options.until_eof:
        signals.watch(sys.stdin.fileno())
    try:
        with running(Path(options.data), signals.pause) as cluster:
            return _supervise(command, cluster, signals)
    except ConfigError as error:
        if command and isinstance(error, InUse) and error.url:
            say(f"Using the PostgreSQL that process {error.pid} runs")
            return _without_server(command, error.url)
        say(str(error))
        return 1


def _without_server(command: list[str], url: str) -> int:
    """Become COMMAND, or show the address; the server is another's."""
    if command:
        os.execvpe(command[0], command, {**os.environ, "DATABASE_URL": url})  # noqa: S606
    print(url)
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"python -m {embedded.__name__}",
        usage="%(prog)s [-h] [--data DIR] [--until-eof] [--] [COMMAND [ARGS...]]",
        description="Run COMMAND with a PostgreSQL for development as its DATABASE_URL, or without"
        " COMMAND print the URL and run until Ctrl-C. A DATABASE_URL that is set is used instead.",
    )
    add = parser.add_argument
    add("--data", default=".data", metavar="DIR", help="data, kept between runs (%(default)s)")
    add("--until-eof", action="store_true", help="end when standard input does, too")
    add("command", nargs=argparse.REMAINDER, metavar="COMMAND", help="what to run")
    return parser.parse_args(arguments)


def _supervise(command: list[str], cluster: Cluster, signals: SignalQueue) -> int:
    """Keep the server running until COMMAND, or a signal, ends this; return the exit code."""
    if not command:
        print(cluster.url, flush=True)
        while not set(STOPPING) & set(signals.wait(cluster.tend())):
            pass
        return 0
    try:
        job = ForegroundJob(command, {**os.environ, "DATABASE_URL": cluster.url}, signals)
    except OSError as error:
        say(f"{command[0]}: {error.strerror}")
        return 126
    while (code := job.exit_code()) is None:
        for number in signals.wait(cluster.tend()):
            job.pass_on(number)
    return code


if __name__ == "__main__":
    sys.exit(main())
