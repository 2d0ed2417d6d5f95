"""wrk, the load generator: one round of one case against a local port."""

import subprocess
from pathlib import Path

import msgspec

from benchmarks.case import HEADERS, Case
from benchmarks.plan import Plan, pin

SCRIPT = Path(__file__).with_name("wrk.lua")
TIMEOUT = 10  # seconds after which a request counts as unanswered


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What wrk.lua prints; times in microseconds."""

    requests: int
    microseconds: int
    p99: float
    unanswered: int
    refused: int


def run(case: Case, port: int, connections: int, plan: Plan) -> Report:
    """Run wrk on the load's cores; raise subprocess.CalledProcessError if it fails."""
    cores = plan.cpus.load
    command = [*pin(cores), "wrk", f"-t{len(cores)}", f"-c{connections}", f"-d{plan.seconds}s"]
    command += [f"--timeout={TIMEOUT}s", f"--script={SCRIPT}"]
    for name, value in {**HEADERS, **case.headers}.items():
        command += ["-H", f"{name}: {value}"]
    command += [f"http://127.0.0.1:{port}{case.path}", "--", case.method]
    if case.body:
        command.append(case.body.decode())
    result = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    return msgspec.json.decode(result.stdout.splitlines()[-1], type=Report)
