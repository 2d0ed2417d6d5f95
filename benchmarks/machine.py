"""The machine of a run: its hardware, its system, and the versions of the tools."""

import os
import platform
import re
import subprocess
from pathlib import Path

from benchmarks.contender import program
from benchmarks.results import Machine

# How each tool prints its version; wrk then exits with an error.
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
        processor=_first_match(r"^model name\s*: (.*)$", "/proc/cpuinfo"),
        cores=len(os.sched_getaffinity(0)),
        memory=int(_first_match(r"^MemTotal:\s*(\d+) kB", "/proc/meminfo") or 0) * 1024,
        system=release.get("PRETTY_NAME", "Linux"),
        kernel=kernel(),
        python=platform.python_version(),
        tools={name: _version(command) for name, command in TOOLS.items() if program(name)},
    )


def kernel() -> str:
    """Return the kernel's version without the distribution's suffix."""
    return platform.release().partition("-")[0]


def commit() -> str:
    """Return the commit that is measured, with "-dirty" if files have changed since."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    match = re.search(r"[0-9a-f]{7,40}(-dirty)?$", _output(command))
    return match[0] if match else "unknown"


def _first_match(pattern: str, file: str) -> str:
    match = re.search(pattern, Path(file).read_text(), re.M)
    return match[1].strip() if match else ""


def _version(command: list[str]) -> str:
    match = re.search(r"\d+(\.\d+)+", _output(command))
    return match[0] if match else ""


def _output(command: list[str]) -> str:
    """Return what a program prints; empty if it is not installed."""
    path = program(command[0])
    if path is None:
        return ""
    result = subprocess.run(  # noqa: S603
        [path, *command[1:]], capture_output=True, text=True, check=False
    )
    return (result.stdout + result.stderr).strip()
