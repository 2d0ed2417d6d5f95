"""Where a run takes place: the machine, its system, and the versions of what measures."""

import os
import platform
import re
import subprocess
from pathlib import Path

from benchmarks.contender import program
from benchmarks.results import Machine

# How each tool says its version; wrk exits with an error when it does.
TOOLS = {
    "nginx": ["nginx", "-v"],
    "postgres": ["postgres", "--version"],
    "valgrind": ["valgrind", "--version"],
    "wrk": ["wrk", "--version"],
}


def describe() -> Machine:
    """Describe this machine."""
    release = platform.freedesktop_os_release()
    return Machine(
        processor=_first(r"^model name\s*: (.*)$", "/proc/cpuinfo"),
        cores=len(os.sched_getaffinity(0)),
        memory=int(_first(r"^MemTotal:\s*(\d+) kB", "/proc/meminfo") or 0) * 1024,
        system=release.get("PRETTY_NAME", "Linux"),
        kernel=kernel(),
        python=platform.python_version(),
        tools={name: _version(command) for name, command in TOOLS.items() if program(name)},
    )


def kernel() -> str:
    """Return the kernel's version, without what a distribution adds to it."""
    return platform.release().partition("-")[0]


def commit() -> str:
    """Return which commit of this repository is measured, and whether it was changed since."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    found = re.search(r"[0-9a-f]{7,40}(-dirty)?$", _said(command))
    return found[0] if found else "unknown"


def _first(pattern: str, file: str) -> str:
    found = re.search(pattern, Path(file).read_text(), re.M)
    return found[1].strip() if found else ""


def _version(command: list[str]) -> str:
    found = re.search(r"\d+(\.\d+)+", _said(command))
    return found[0] if found else ""


def _said(command: list[str]) -> str:
    """Return what a program prints; nothing where it is not installed."""
    path = program(command[0])
    if path is None:
        return ""
    result = subprocess.run(  # noqa: S603
        [path, *command[1:]], capture_output=True, text=True, check=False
    )
    return (result.stdout + result.stderr).strip()
