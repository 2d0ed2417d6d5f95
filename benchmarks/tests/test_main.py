"""The command line."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import contender
from benchmarks.__main__ import main
from benchmarks.contender import program
from benchmarks.tests.conftest import needs_wrk
from testkit.ports import accepts, free_port
from testkit.processes import Program


def test_the_list_names_every_contender(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names == list(contender.discover())


def test_a_wrong_name_is_refused_with_the_right_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "aiohtp"]) == 2
    said = capsys.readouterr().err
    assert "no contender is named 'aiohtp': there are api-hour, " in said


def test_a_missing_program_is_refused_with_the_command_that_installs_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(name: str) -> str | None:
        return None if name in ("wrk", "valgrind") else program(name)

    monkeypatch.setattr(contender, "program", without)
    assert main(["--only", "nginx"]) == 2
    said = capsys.readouterr().err
    assert "missing here: valgrind wrk; on Debian: sudo apt-get install valgrind wrk" in said


@needs_wrk
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_contenders_too(tmp_path: Path, number: signal.Signals) -> None:
    port = free_port()
    command = [sys.executable, "-m", "benchmarks", "--here", "--only=parser", "--measure=cpu"]
    command += [f"--venvs={tmp_path}", f"--output={tmp_path}/x.json", f"--port={port}"]
    with Program(*command, "--seconds=60") as running:
        running.wait_for("cpu: ")
        assert accepts(port)
        assert running.stop(number) == {signal.SIGTERM: 143, signal.SIGINT: -signal.SIGINT}[number]
    assert not accepts(port)


@pytest.mark.parametrize("module", ["benchmarks", "benchmarks.report"])
def test_the_commands_explain_themselves(module: str) -> None:
    command = [sys.executable, "-m", module, "--help"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert f"usage: python -m {module}" in said


def test_a_size_of_zero_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--rounds", "0"])
    assert "--rounds: must be at least 1, got 0" in capsys.readouterr().err
