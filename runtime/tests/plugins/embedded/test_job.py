"""COMMAND as a job: each signal reaches it once, and it has the terminal."""

import os
import signal
import sys
from pathlib import Path

import pytest

from api_hour.plugins import embedded
from runtime.tests.plugins.embedded.supervisor import (
    SIGNALS,
    STOP_SIGNALS,
    Supervisor,
    recorder,
    run,
    terminal,
    wait_until_gone,
)
from testkit.waiting import until


def test_processes_left_in_commands_group_are_terminated(data: Path) -> None:
    assert run(data, "sh", "-c", "sleep 1000 & exit 0")[0] == 0
    wait_until_gone(data)


def test_each_signal_reaches_command_once(data: Path) -> None:
    with Supervisor(data, *recorder(stops=len(STOP_SIGNALS))) as supervisor:
        assert supervisor.line() == "ready"
        for name in reversed(SIGNALS):
            supervisor.process.send_signal(signal.Signals[name])
            assert supervisor.line() == name
        assert supervisor.line() == "(end)"
        assert supervisor.exit_code() == 0
    wait_until_gone(data)


def test_a_signal_to_the_group_without_a_terminal_reaches_command_once(data: Path) -> None:
    with Supervisor(data, *recorder(stops=2)) as supervisor:
        assert supervisor.line() == "ready"
        for name in ("SIGUSR1", "SIGINT", "SIGUSR2", "SIGTERM"):
            os.killpg(supervisor.process.pid, signal.Signals[name])
            assert supervisor.line() == name
        assert supervisor.line() == "(end)"
        assert supervisor.exit_code() == 0


@pytest.mark.parametrize(("seconds", "next_signal"), [(1000, "SIGUSR1"), (0, "SIGTERM")])
def test_a_term_that_make_repeats_after_its_group_got_it_counts_once(
    data: Path, seconds: int, next_signal: str
) -> None:
    change = f"from {embedded.__name__} import __main__, job; job.REPEAT_WINDOW = {seconds}"
    python = [sys.executable, "-c", f"{change}; import sys; sys.exit(__main__.main())"]
    with Supervisor(data, *recorder(stops=3), python=python) as supervisor:
        assert supervisor.line() == "ready"
        supervisor.process.send_signal(signal.SIGTERM)
        assert supervisor.line() == "SIGTERM"
        supervisor.process.send_signal(signal.SIGTERM)
        if next_signal != "SIGTERM":
            supervisor.process.send_signal(signal.SIGUSR1)
        assert supervisor.line() == next_signal


def test_ctrl_c_reaches_command_once_and_the_server_ends_after_it(data: Path) -> None:
    with terminal(data, *recorder(stops=2)) as (supervisor, keyboard):
        assert supervisor.line() == "ready"
        os.write(keyboard, b"\x03")
        assert supervisor.line() == "SIGINT"
        os.write(keyboard, b"\x03")
        assert supervisor.line() == "SIGINT"
        assert supervisor.line() == "(end)"
        assert supervisor.exit_code() == 0
        assert not (data / "postgresql" / "postmaster.pid").exists()  # not a moment later


def test_command_reads_from_the_terminal_and_gives_it_back(data: Path) -> None:
    script = '"$@"; read after; echo "shell $after"'
    with terminal(
        data, "--", "sh", "-c", "read line; echo command $line", prefix=("sh", "-c", script, "sh")
    ) as (supervisor, keyboard):
        os.write(keyboard, b"one\n")
        assert supervisor.line() == "command one"
        os.write(keyboard, b"two\n")
        assert supervisor.line() == "shell two"


def test_ctrl_z_stops_the_whole_job_and_fg_continues_it(data: Path) -> None:
    script = '"$@"; echo stopped $?; fg >&2; echo ended $?'
    shell = ("bash", "--norc", "-ic", script, "bash")
    with terminal(data, *recorder(), prefix=shell) as (supervisor, keyboard):
        assert supervisor.line() == "ready"
        job = os.tcgetpgrp(keyboard)
        os.write(keyboard, b"\x1a")
        assert supervisor.line() == f"stopped {128 + signal.SIGTSTP}"
        until(lambda: os.tcgetpgrp(keyboard) == job, "the job did not get the terminal back")
        os.write(keyboard, b"\x03")
        assert supervisor.line() == "SIGINT"
        assert supervisor.line() == "ended 0"


def test_closing_the_terminal_ends_everything(data: Path) -> None:
    command = ("sh", "-c", "trap '' HUP; echo ready; exec sleep 1000")
    with terminal(data, "--", *command) as (supervisor, keyboard):
        assert supervisor.line() == "ready"
        os.close(keyboard)
        assert supervisor.exit_code() == 128 + signal.SIGTERM
    wait_until_gone(data)


def test_under_nohup_closing_the_terminal_ends_nothing(data: Path) -> None:
    with terminal(data, *recorder(), prefix=("nohup",)) as (supervisor, keyboard):
        assert supervisor.line() == "ready"
        os.close(keyboard)
        for _ in range(3):
            supervisor.process.send_signal(signal.SIGUSR1)
            assert supervisor.line() == "SIGUSR1"
        assert supervisor.exit_code(signal.SIGTERM) == 0
