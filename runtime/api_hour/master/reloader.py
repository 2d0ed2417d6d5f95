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
from api_hour.logs import NonBlockingHandler, observers
from api_hour.worker.importer import shorten

DEBOUNCE = 50  # milliseconds of silence that end a burst of changes
LOOK = 500  # milliseconds between two looks at what the kernel does not report
log = logging.getLogger("api_hour.master.reloader")


def start(generation: Generation, begun: float) -> "subprocess.Popen[bytes]":
    """Watch a project's code and configuration; raises ConfigError without watchfiles.

    What was saved after ``begun``, by time.time(), counts as changed.
    """
    if find_spec("watchfiles") is None:
        raise ConfigError(f"--reload needs watchfiles: {INSTALL['watch']}")
    command = [
        sys.executable,
        "-P",  # the project's modules do not take the place of Python's
        "-m",
        "api_hour.master.reloader",
        str(os.getpid()),
        str(begun),
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
    return paths


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
    try:
        for changed in _bursts(paths, begun):
            log.info("%s: reloading", describe(changed))
            os.kill(master, signal.SIGHUP)
    except ProcessLookupError:
        return
    except Exception as error:  # the master starts this process again
        sys.exit(f"The files of the project cannot be watched: {observers.describe(error)}")


def _bursts(paths: list[str], begun: float) -> Iterator[set[str]]:
    """Yield the files of each burst of changes; the first are those saved since ``begun``.

    The kernel's watch of a path ends with the file or the folder that was there: an editor saves
    by a rename, a checkout removes a folder and makes another one, a symbolic link moves. So
    whatever stands at a path anew has changed, and begins a new watch.
    """
    while True:
        before = _identities(paths)
        with suppress(FileNotFoundError):  # gone since
            for changed in _watch([path for path in paths if before[path]], begun):
                now = _identities(paths)
                if changed := changed | {path for path in paths if now[path] != before[path]}:
                    begun = time.time()
                    yield changed
                if now != before:
                    break
            else:
                return


def _identities(paths: Iterable[str]) -> dict[str, tuple[int, int] | None]:
    """Return what stands at each path; None for nothing."""
    found: dict[str, tuple[int, int] | None] = dict.fromkeys(paths)
    for path in found:
        with suppress(OSError):
            status = os.stat(path)
            found[path] = status.st_dev, status.st_ino
    return found


def _watch(paths: list[str], begun: float) -> Iterator[set[str]]:
    """Yield the files that change, and an empty set for each LOOK without a change."""
    try:
        yield from _ask_kernel(paths, begun)
        return
    except FileNotFoundError:
        raise
    except (OSError, RuntimeError) as error:  # a limit of inotify
        log.warning("Looking at every file again and again, for the kernel reports none: %s", error)
    before = {path: saved for path, saved in _times(paths).items() if saved <= begun}
    while True:
        now = _times(paths)
        yield {path for path in {**before, **now} if before.get(path) != now.get(path)}
        before = now
        time.sleep(LOOK / 1000)


def _ask_kernel(paths: list[str], begun: float) -> Iterator[set[str]]:
    import watchfiles

    looked = False
    for changes in watchfiles.watch(
        *paths,
        debounce=1600,
        step=DEBOUNCE,
        rust_timeout=LOOK,
        yield_on_timeout=True,
        raise_interrupt=False,
    ):
        changed = {path for _, path in changes}
        if not looked:
            looked = True
            changed |= {path for path, saved in _times(paths).items() if saved > begun}
        yield changed


def _times(paths: Iterable[str]) -> dict[str, float]:
    """Return when each file at and below ``paths`` was saved."""
    import watchfiles

    wanted, found = watchfiles.DefaultFilter(), {}
    for path in map(Path, paths):
        for file in (path, *path.rglob("*")):
            with suppress(OSError):  # gone meanwhile
                if file.is_file() and wanted(watchfiles.Change.modified, str(file)):
                    found[str(file)] = file.stat().st_mtime
    return found


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
