"""The server and its data: created once, kept, locked, started again, and refused with a cure."""

import os
import re
import signal
import stat
import subprocess
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import urlsplit

import psycopg2
import pytest

from api_hour.plugins import embedded
from runtime.tests.plugins.embedded.supervisor import (
    Supervisor,
    needs_linux,
    postmaster,
    query,
    recorder,
    run,
    wait_until_gone,
)
from testkit.disk import mounted
from testkit.waiting import until


def test_the_first_start_creates_a_cluster_and_later_ones_find_its_data(tmp_path: Path) -> None:
    data = tmp_path / ".data"
    with Supervisor(data) as supervisor:
        query(supervisor.line(), "CREATE TABLE kept AS SELECT 42 AS answer")
        assert re.match(
            r"Creating a PostgreSQL \S+ cluster in \S+/\.data/postgresql", supervisor.errors
        )
        assert re.search(r"PostgreSQL \S+ is ready \(socket in \S+/\.data\)", supervisor.errors)
        assert supervisor.exit_code(signal.SIGTERM) == 0
    with Supervisor(data) as supervisor:
        assert query(supervisor.line(), "SELECT answer FROM kept") == 42
        assert "Creating" not in supervisor.errors


def test_only_the_password_opens_the_server_and_only_its_owner_can_read_it(data: Path) -> None:
    with embedded.postgresql(data) as server:
        password = urlsplit(server.url).password or ""
        with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
            psycopg2.connect(server.url.replace(password, "wrong"))
        with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
            psycopg2.connect(server.url.replace("api_hour", "postgres"))
        assert query(server.url, "SHOW listen_addresses") == ""
        assert query(server.url, "SHOW server_encoding") == "UTF8"
    assert stat.S_IMODE((data / "credentials").stat().st_mode) == 0o600
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert (data / ".gitignore").read_text() == "*\n"


def test_a_full_disk_is_named_and_the_next_start_has_what_it_needs(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk") as disk:
        data = disk.folder / ".data"
        disk.fill()
        code, _, errors = run(data, "--", "true")
        assert (code, errors) == (1, f"PostgreSQL cannot run in {data}: No space left on device\n")
        disk.make_room()
        assert run(data, "--", "true")[0] == 0
        assert (data / ".gitignore").read_text() == "*\n"
        disk.fill()
        code, _, errors = run(data, "--", "true")
        assert (code, errors.splitlines()[-1]) == (1, "  no space is left on this disk")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_during_initdb_does_not_break_the_next_start(tmp_path: Path, number: int) -> None:
    for attempt in range(5):
        data = tmp_path / f"data{attempt}"
        with Supervisor(data, "true") as supervisor:
            until((data / "postgresql.new" / "base").exists, "initdb has not begun")
            code = supervisor.exit_code(number)
        if not (data / "postgresql").exists():  # else initdb was done before the signal came
            break
    assert code == (-number if number == signal.SIGKILL else 128 + number)
    assert not (data / "postgresql").exists()
    code, _, errors = run(data, "true")
    assert code == 0, errors
    assert not (data / "postgresql.new").exists()


@needs_linux
def test_kill_9_of_the_supervisor_ends_both_and_the_next_start_has_the_data(data: Path) -> None:
    with Supervisor(data, *recorder()) as supervisor:
        assert supervisor.line() == "ready"
        url = f"postgresql://{(data / 'credentials').read_text()}@/postgres?host={data}"
        query(url, "DROP TABLE IF EXISTS sudden; CREATE TABLE sudden AS SELECT 7 AS answer")
        assert supervisor.exit_code(signal.SIGKILL) == -signal.SIGKILL
        with embedded.postgresql(data) as server:  # at once: it waits for the old server's end
            assert query(server.url, "SELECT answer FROM sudden") == 7
    wait_until_gone(data)


@needs_linux
def test_a_start_waits_for_the_server_of_a_supervisor_that_was_killed(data: Path) -> None:
    with Supervisor(data) as first, closing(psycopg2.connect(first.line())) as connection:
        backend = connection.info.backend_pid
        os.kill(backend, signal.SIGSTOP)  # so that the server cannot exit
        first.exit_code(signal.SIGKILL)
        with Supervisor(data, "true") as second:
            message = "Waiting for the server of an earlier run to exit ..."
            until(lambda: message in second.errors, f"not printed: {message}")
            os.kill(backend, signal.SIGCONT)
            assert second.exit_code() == 0
    wait_until_gone(data)


def test_a_killed_server_is_restarted_and_the_end_of_its_log_printed_once(data: Path) -> None:
    with Supervisor(data) as supervisor:
        url = supervisor.line()
        with pytest.raises(psycopg2.DataError):
            query(url, "SELECT '\x1b[2J'::int")
        for _ in range(2):
            old = postmaster(data)
            os.kill(old, signal.SIGKILL)

            def answers_again(old: int = old) -> bool:
                with suppress(psycopg2.OperationalError, OSError, IndexError):
                    return postmaster(data) != old and query(url, "SELECT 1") == 1
                return False

            until(answers_again, "the server was not restarted")
        assert supervisor.exit_code(signal.SIGTERM) == 0
        assert supervisor.errors.count("PostgreSQL exited unexpectedly and is restarted:") == 1
        assert "database system is ready to accept connections" in supervisor.errors
        assert 'invalid input syntax for type integer: " [2J"' in supervisor.errors


@pytest.mark.parametrize("state", ["alive", "not reaped"])
def test_a_stale_pid_file_that_names_another_process_does_not_stop_the_start(
    data: Path, state: str
) -> None:
    with subprocess.Popen(["true"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        pid = os.getpid() if state == "alive" else child.pid
        stale = f"{pid}\n{data}/postgresql\n1700000000\n5432\n{data}\n\n  1 2\nready\n"
        for file in (data / "postgresql" / "postmaster.pid", data / ".s.PGSQL.5432.lock"):
            file.write_text(stale)
        code, _, errors = run(data, "true")
    assert code == 0, errors


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_what_the_server_left_instead_of_its_pid_file_is_not_read(
    data: Path, tmp_path: Path, kind: str
) -> None:
    file, secret = data / "postgresql" / "postmaster.pid", tmp_path / "secret"
    secret.write_text("secret")
    if kind == "link":
        file.symlink_to(secret)
    else:
        os.mkfifo(file)
    try:
        code, _, errors = run(data, "true")
    finally:
        file.unlink()
    assert (code, "secret" in errors) == (1, False)
    assert f"{file} is not an ordinary file of this user's: remove it" in errors


def test_a_server_that_cannot_start_shows_the_end_of_its_log(data: Path) -> None:
    settings = data / "postgresql" / "postgresql.auto.conf"
    before = settings.read_text()
    settings.write_text("no_such_setting = 1\n")
    try:
        code, _, errors = run(data, "true")
    finally:
        settings.write_text(before)
    assert code == 1
    assert "PostgreSQL did not start:\n" in errors  # after "Waiting ...", if that took a while
    assert 'unrecognized configuration parameter "no_such_setting"' in errors


def test_a_folder_that_is_not_a_cluster_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "postgresql").mkdir()
    (tmp_path / "postgresql" / "letter").write_text("dear")
    code, _, errors = run(tmp_path, "true")
    assert code == 1
    assert errors == f"{tmp_path}/postgresql is not a PostgreSQL cluster: move it away\n"


def test_a_missing_password_is_made_again(data: Path) -> None:
    with embedded.postgresql(data) as server:
        query(server.url, "DROP TABLE IF EXISTS kept; CREATE TABLE kept AS SELECT 3 AS answer")
    (data / "credentials").unlink()
    with embedded.postgresql(data) as server:
        assert query(server.url, "SELECT answer FROM kept") == 3
