"""A short run of the whole command: real contenders, a real PostgreSQL, results and a report."""

from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.report.__main__ import report
from benchmarks.results import Results
from benchmarks.tests.conftest import needs_wrk
from testkit.ports import free_port

NAMES = ["api-hour", "api-hour-stock", "aiohttp"]


@needs_wrk
@pytest.mark.slow
def test_a_short_run_measures_api_hour_with_and_without_its_fast_path_and_aiohttp(
    tmp_path: Path,
) -> None:
    output = tmp_path / "results.json"
    arguments = ["--short", "--here", "--measure=cpu", "--measure=idle", f"--output={output}"]
    arguments += [f"--venvs={tmp_path}", f"--port={free_port(len(NAMES))}", "--case=agents"]
    assert main(arguments + [f"--only={name}" for name in NAMES]) == 0
    results = Results.read(output)
    assert [one.name for one in results.entrants] == NAMES
    assert [one.versions["aiohttp"][:2] for one in results.entrants] == ["3."] * 3
    assert [one.contender for one in results.loads] == NAMES
    assert all(load.requests > 20 for load in results.loads)
    assert [one.connections for one in results.idle] == [100] * 3
    assert "Kitchen table: 50 joined rows, 8 connections:" in report(results, "short")["short.inc"]
