"""wrk, the load generator: one round of one case against a port of this machine."""

import subprocess
from collections.abc import Iterable
from pathlib import Path

import msgspec

from benchmarks.case import HEADERS, Case

SCRIPT = Path(__file__).with_name("wrk.lua")
TIMEOUT = 10  # seconds until a request counts as unanswered


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hold what wrk.lua prints; times in microseconds."""

    requests: int
    microseconds: int
    p99: float
    unanswered: int
    refused: int


def run(case: Case, port: int, *, connections: int, seconds: int, cpus: Iterable[int]) -> Report:
    """Load a server from the cores ``cpus``; raise subprocess.CalledProcessError when wrk fails."""
    headers = {**HEADERS, **case.headers}
    cores = sorted(cpus)
    command = [
        "taskset",
        "-c",
        ",".join(map(str, cores)),
        "wrk",
        "-t",
        str(len(cores)),
        "-c",
        str(connections),
        "-d",
        f"{seconds}s",
    ]
    command += ["--timeout", f"{TIMEOUT}s", "-s", str(SCRIPT)]
    for name, value in headers.items():
        command += ["-H", f"{name}: {value}"]
    command += [f"http://127.0.0.1:{port}{case.path}", "--", case.method]
    if case.body:
        command.append(case.body.decode())
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603
    return msgspec.json.decode(said.splitlines()[-1], type=Report)
