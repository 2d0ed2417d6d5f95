"""Reload in development: a process beside the master that sends it HUP when a file changes.

``python -m api_hour.master.reloader MASTER_PID TIME PATH...`` runs until its standard input ends.
The master holds the other end of that pipe, so the reloader ends with the master, however that
dies. It is a process because watching is a thread and blocks, and the master forks.

It takes a moment to start. A file that was saved meanwhile is newer than TIME, when the master
started it, and counts as changed.
"""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path

from api_hour.config.generation import Generation
from api_hour.exceptions import INSTALL, ConfigError
from api_hour.logs import NonBlockingHandler
from api_hour.worker.importer import shorten

DEBOUNCE = 50  # milliseconds of silence that end a burst of changes
FIRST_LOOK = 500  # milliseconds from watching to the look at what was saved before
log = logging.getLogger("api_hour.master.reloader")


def start(generation: Generation) -> "subprocess.Popen[bytes]":
    """Watch a project's code and configuration; raises ConfigError without watchfiles."""
    if find_spec("watchfiles") is None:
        raise ConfigError(f"--reload needs watchfiles: {INSTALL['watch']}")
    command = [
        sys.executable,
        "-P",  # the project's modules do not take the place of Python's
        "-m",
        "api_hour.master.reloader",
        str(os.getpid()),
        str(time.time()),
        *_paths(generation),
    ]
    # In a process group of its own, which Ctrl-C does not reach: the master handles that.
    return subprocess.Popen(command, stdin=subprocess.PIPE, process_group=0)  # noqa: S603 - ours


def _paths(generation: Generation) -> list[str]:
    """Return what to watch: the package or the single module, and the configuration's folder."""
    package = generation.spec.partition(":")[0].partition(".")[0]
    found = PathFinder.find_spec(package, [generation.folder, *sys.path])
    paths = [generation.document.folder]
    if found:
        paths += found.submodule_search_locations or [found.origin or generation.folder]
    return [path for path in paths if os.path.exists(path)]


def wait_for_change(places: Iterable[str], begun: float, told: str) -> bool:
    """Wait until a file is saved after ``begun``; return False if nothing can be watched."""
    paths = [place for place in places if os.path.exists(place)]
    if not paths or find_spec("watchfiles") is None:
        return False
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing runs yet that Ctrl-C has to stop
    print(f"{told}; waiting for a change", file=sys.stderr)
    next(_bursts(paths, begun))
    return True


def main() -> None:
    """Send HUP to the master for every burst of changes, until standard input ends."""
    log.addHandler(NonBlockingHandler())
    log.setLevel(logging.INFO)
    master, begun, paths = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
    threading.Thread(target=_exit_on_stdin_eof, daemon=True).start()
    with suppress(ProcessLookupError):
        for changed in _bursts(paths, begun):
            log.info("%s: reloading", describe(changed))
            os.kill(master, signal.SIGHUP)


def _bursts(paths: list[str], begun: float) -> Iterator[set[str]]:
    """Yield the files of each burst of changes; the first are those saved since ``begun``.

    Most editors save by a rename, and the kernel's watch of a single file ends with that file. So
    what was saved to one of ``paths`` begins a new watch, of the file that is there by then.
    """
    single = {path for path in paths if os.path.isfile(path)}
    while True:
        for changed in _watch(paths, begun):
            begun = time.time()
            yield changed
            if changed & single:
                break
        else:
            return
        while not all(map(os.path.exists, single)):
            time.sleep(DEBOUNCE / 1000)


def _watch(paths: list[str], begun: float) -> Iterator[set[str]]:
    import watchfiles

    looked = False
    for changes in watchfiles.watch(
        *paths,
        debounce=1600,
        step=DEBOUNCE,
        rust_timeout=FIRST_LOOK,
        yield_on_timeout=True,
        raise_interrupt=False,
    ):
        changed = {path for _, path in changes}
        if not looked:
            looked = True
            changed |= set(_saved_since(begun, paths))
        if changed:
            yield changed


def _saved_since(begun: float, paths: Iterable[str]) -> Iterator[str]:
    """Yield the files at and below ``paths`` that were saved later than ``begun``."""
    import watchfiles

    wanted = watchfiles.DefaultFilter()
    for path in map(Path, paths):
        for file in (path, *path.rglob("*")):
            with suppress(OSError):  # gone meanwhile
                saved = file.is_file() and file.stat().st_mtime > begun
                if saved and wanted(watchfiles.Change.modified, str(file)):
                    yield str(file)


def describe(paths: Iterable[str]) -> str:
    """Return what has changed, in words: a name, and how many more."""
    first, *others = sorted({shorten(path) for path in paths})
    files = "file" if len(others) == 1 else "files"
    return (
        f"{first} has changed"
        if not others
        else f"{first} and {len(others)} {files} more have changed"
    )


def _exit_on_stdin_eof() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
