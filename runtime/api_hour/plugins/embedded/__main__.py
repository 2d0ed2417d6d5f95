"""The command ``python -m api_hour.plugins.embedded``: run COMMAND with a PostgreSQL."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from shutil import which

from api_hour.exceptions import ConfigError
from api_hour.plugins import embedded
from api_hour.plugins._dsn import refuse_ambiguous_url
from api_hour.plugins.embedded import host
from api_hour.plugins.embedded.cluster import Cluster, InUse, remove, run_as_superuser, running, say
from api_hour.plugins.embedded.job import STOP_SIGNALS, ForegroundJob, SignalQueue


def main(arguments: Sequence[str] | None = None) -> int:
    """Run COMMAND with a server, or only the server; return the exit code."""
    options = _parse(arguments)
    command: list[str] = options.command
    if command[:1] == ["--"]:
        del command[0]
    if options.with_parent:
        host.die_with_parent(signal.SIGTERM, os.getppid())  # also through exec
    if command and which(command[0]) is None:
        say(f"{command[0]}: command not found")
        return 127
    maintains = options.superuser or options.remove
    if (url := os.environ.get("DATABASE_URL")) and not maintains:
        return _use_database_url(command, url)
    sql = sys.stdin.read() if options.superuser else ""
    signals = SignalQueue()
    if options.until_eof:
        signals.watch_hang_up(sys.stdin.fileno())
    try:
        return _run(Path(options.data), command, options, sql, signals)
    except ConfigError as error:
        if command and isinstance(error, InUse) and error.url:
            say(f"Using the PostgreSQL that process {error.pid} started")
            return _use_other_server(command, error.url)
        say(str(error))
    except OSError as error:  # a full disk, say
        say(f"PostgreSQL cannot run in {options.data}: {error.strerror}")
    return 1


def _run(
    data: Path, command: list[str], options: argparse.Namespace, sql: str, signals: SignalQueue
) -> int:
    if options.remove:
        remove(data, signals.pause)
        return 0
    if options.superuser:
        print(run_as_superuser(data, signals.pause, sql), end="")
        return 0
    with running(data, signals.pause) as cluster:
        return _supervise(command, cluster, signals)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"python -m {embedded.__name__}",
        usage="%(prog)s [-h] [--data DIR] [--until-eof] [--with-parent] [--] [COMMAND [ARGS...]]\n"
        "       %(prog)s [--data DIR] --superuser < SQL\n"
        "       %(prog)s [--data DIR] --remove",
        description="Run COMMAND with DATABASE_URL set to a PostgreSQL for development; without"
        " COMMAND, print the URL and run until Ctrl-C. If DATABASE_URL is set already, that"
        " database is used and no server is started.",
    )
    add = parser.add_argument
    add("--data", default=".data", metavar="DIR", help="folder of the data (default: %(default)s)")
    add("--until-eof", action="store_true", help="stop when standard input is closed, too")
    add("--with-parent", action="store_true", help="stop when the parent process ends, too")
    add("--superuser", action="store_true", help="run SQL as the superuser, without a server")
    add("--remove", action="store_true", help="remove the data, and run nothing")
    add("command", nargs=argparse.REMAINDER, metavar="COMMAND", help="what to run")
    return parser.parse_args(arguments)


def _use_database_url(command: list[str], url: str) -> int:
    try:
        refuse_ambiguous_url(url)  # COMMAND may repeat it: dbmate does
    except ConfigError as error:
        say(f"DATABASE_URL: {error}")
        return 1
    return _use_other_server(command, url)


def _use_other_server(command: list[str], url: str) -> int:
    """Replace this process by COMMAND, or print the URL: there is no server to look after."""
    if command:
        os.execvpe(command[0], command, {**os.environ, "DATABASE_URL": url})  # noqa: S606
    print(url)
    return 0


def _supervise(command: list[str], cluster: Cluster, signals: SignalQueue) -> int:
    """Keep the server running until COMMAND exits, or a signal comes; return the exit code."""
    if not command:
        print(cluster.url, flush=True)
        while not set(STOP_SIGNALS) & set(signals.wait(cluster.restart_if_exited())):
            pass
        return 0
    try:
        job = ForegroundJob(command, {**os.environ, "DATABASE_URL": cluster.url}, signals)
    except OSError as error:
        say(f"{command[0]}: {error.strerror}")
        return 126
    while (code := job.exit_code()) is None:
        for number in signals.wait(cluster.restart_if_exited()):
            job.forward(number)
    return code


if __name__ == "__main__":
    sys.exit(main())
