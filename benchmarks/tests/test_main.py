"""The command line."""

import subprocess
import sys

import pytest

from benchmarks import contender
from benchmarks.__main__ import main
from benchmarks.contender import program


def test_the_list_names_every_contender(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names == list(contender.discover())


def test_a_wrong_name_ends_with_the_right_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "aiohtp"]) == 2
    said = capsys.readouterr().err
    assert "no contender is named 'aiohtp': there are api-hour, " in said


def test_a_missing_program_ends_with_the_command_that_installs_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(name: str) -> str | None:
        return None if name in ("wrk", "valgrind") else program(name)

    monkeypatch.setattr(contender, "program", without)
    assert main(["--only", "nginx"]) == 2
    said = capsys.readouterr().err
    assert "missing here: valgrind wrk; on Debian: sudo apt-get install valgrind wrk" in said


@pytest.mark.parametrize("module", ["benchmarks", "benchmarks.report"])
def test_the_commands_explain_themselves(module: str) -> None:
    command = [sys.executable, "-m", module, "--help"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert f"usage: python -m {module}" in said


def test_a_size_of_nothing_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--rounds", "0"])
    assert "--rounds: must be at least 1, got 0" in capsys.readouterr().err
