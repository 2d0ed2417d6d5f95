"""The command: what COMMAND is given, the exit code, DATABASE_URL, and a server that runs."""

import re
import signal
import sys
from pathlib import Path

import pytest

from runtime.tests.plugins.embedded.supervisor import Supervisor, query, recorder, run

SHOW_URL = "import os; print(os.environ['DATABASE_URL'])"


def test_command_gets_the_url_in_its_environment_and_its_output_stays_clean(data: Path) -> None:
    code, output, _ = run(data, "--", sys.executable, "-c", SHOW_URL)
    assert code == 0
    assert re.fullmatch(
        rf"postgresql://api_hour:[\w-]{{32}}@/postgres\?host={data}&port=5432", output
    )


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["sh", "-c", "exit 7"], 7),
        (["sh", "-c", "kill -KILL $$"], 137),
        (["sh", "-c", "kill -TERM $$"], 143),
        (["no-such-command"], 127),
        (["/dev/null"], 127),
    ],
)
def test_the_exit_code_is_commands(data: Path, command: list[str], code: int) -> None:
    assert run(data, "--", *command)[0] == code


def test_a_command_that_cannot_be_executed_is_named(data: Path, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("no program")
    program.chmod(0o755)
    code, _, errors = run(data, "--", program)
    assert (code, errors.splitlines()[-1]) == (126, f"{program}: Exec format error")


def test_with_database_url_command_replaces_the_supervisor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://elsewhere/x")
    data = tmp_path / ".data"
    with Supervisor(data, "--", "sh", "-c", "echo $$ $DATABASE_URL; exit 3") as supervisor:
        assert supervisor.line() == f"{supervisor.process.pid} postgresql://elsewhere/x"
        assert supervisor.exit_code() == 3
    assert run(data) == (0, "postgresql://elsewhere/x", "")
    assert not data.exists()


def test_a_database_url_that_command_may_misread_is_refused_without_being_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:pass/word@host/name")
    code, output, errors = run(tmp_path / ".data", "--", "sh", "-c", "echo $DATABASE_URL")
    assert (code, output) == (1, "")
    assert errors == (
        "DATABASE_URL: cannot parse the PostgreSQL DSN: write it as"
        " postgresql://USER:PASSWORD@HOST:PORT/NAME, special characters as %XX, such as %2F for /\n"
    )


def test_a_second_command_uses_the_running_server(data: Path) -> None:
    with Supervisor(data, *recorder()) as first:
        assert first.line() == "ready"
        code, url, errors = run(data, "--", sys.executable, "-c", SHOW_URL)
        message = f"Using the PostgreSQL that process {first.process.pid} started\n"
        assert (code, errors) == (0, message)
        assert query(url, "SELECT 1") == 1
        assert first.exit_code(signal.SIGTERM) == 0


def test_a_second_server_in_a_folder_is_refused_naming_the_process(data: Path) -> None:
    with Supervisor(data) as first:
        url = first.line()
        code, output, errors = run(data)
        cure = "stop it, or choose another folder (--data)"
        assert (code, output) == (1, "")
        assert errors == f"{data} is in use by process {first.process.pid}: {cure}\n"
        assert query(url, "SELECT 1") == 1


def test_data_can_be_removed_unless_a_server_uses_it_and_what_is_not_its_own_stays(
    tmp_path: Path,
) -> None:
    data = tmp_path / ".data"
    assert run(data, "--remove") == (0, "", "")
    with Supervisor(data) as first:
        assert first.line()
        code, _, errors = run(data, "--remove")
        assert code == 1
        assert errors.startswith(f"{data} is in use by process {first.process.pid}: stop it")
        (data / "mine").touch()
        assert first.exit_code(signal.SIGTERM) == 0
    assert run(data, "--remove") == (0, "", f"Removed the PostgreSQL in {data}\n")
    assert [path.name for path in data.iterdir()] == ["mine"]
