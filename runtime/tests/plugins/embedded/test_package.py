"""The server for code in Python: ``postgresql()``, ``PostgreSQL``, and what importing it loads."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import asyncpg
import psycopg2
import pytest

from api_hour.exceptions import ConfigError
from api_hour.plugins import embedded
from runtime.tests.plugins.embedded.supervisor import PACKAGE, query, run, wait_until_gone

OF_THE_PACKAGE = ("exceptions", "owned_files", "plugins", "plugins._dsn", "privileges")
OF_THE_PLUGIN = ("__main__", "cluster", "host", "job", "roles")


def test_every_client_understands_the_url_whatever_pgport_says(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "1")

    async def ask(url: str) -> Any:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval("SELECT 1 + 1")
        finally:
            await connection.close()

    with embedded.postgresql(data) as server:
        assert query(server.url, "SELECT 1 + 1") == 2
        assert asyncio.run(ask(server.url)) == 2


def test_a_database_url_is_used_and_no_server_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://elsewhere/x")
    with embedded.postgresql(tmp_path / ".data") as server:
        assert server.url == "postgresql://elsewhere/x"
        with pytest.raises(ConfigError, match="is DATABASE_URL's"):
            _ = server.pid
    assert not (tmp_path / ".data").exists()


def test_own_starts_a_server_in_spite_of_database_url(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://elsewhere/x")
    with embedded.postgresql(data, own=True) as server:
        assert query(server.url, "SELECT 1") == 1
    wait_until_gone(data)


def test_a_server_can_be_stopped_and_started_again_under_the_same_url(data: Path) -> None:
    with embedded.postgresql(data) as server:
        url, pid = server.url, server.pid
        assert Path(f"/proc/{pid}/cwd").resolve() == data / "postgresql"
        server.stop()
        wait_until_gone(data)
        with pytest.raises(psycopg2.OperationalError):
            psycopg2.connect(url)
        with pytest.raises(ConfigError, match="is stopped"):
            _ = server.pid
        server.start()
        assert server.url == url
        assert server.pid != pid
        assert query(url, "SELECT 1") == 1
    wait_until_gone(data)


def test_ctrl_c_of_the_tests_does_not_reach_their_server(data: Path) -> None:
    with embedded.postgresql(data) as server:
        assert os.getpgid(server.pid) != os.getpgrp()
        assert os.getsid(server.pid) != os.getsid(0)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_ends_with_the_process_that_started_it_not_with_its_thread(
    data: Path, number: int
) -> None:
    program = f"""
import threading, time
from api_hour.plugins import embedded
server = embedded.PostgreSQL({str(data)!r})
thread = threading.Thread(target=server.start)
thread.start()
thread.join()
print(server.url, flush=True)
time.sleep(1000)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert query(process.stdout.readline().strip(), "SELECT 1") == 1  # the thread has ended
        process.send_signal(number)
    wait_until_gone(data)


def test_a_server_that_cannot_start_raises_what_the_command_printed(data: Path) -> None:
    with embedded.postgresql(data) as server:
        _, _, errors = run(data)
        with pytest.raises(ConfigError) as caught:
            embedded.PostgreSQL(data).start()
        assert str(caught.value) == errors.strip()
        assert query(server.url, "SELECT 1") == 1


def test_the_plugin_needs_the_standard_library_only() -> None:
    program = f"""
import sys
import {embedded.__name__}.__main__
print(*{{name.partition(".")[0] for name in sys.modules}} - sys.stdlib_module_names)
print(*sorted(name for name in sys.modules if name.startswith("api_hour")))
"""
    environment = {"PYTHONPATH": str(PACKAGE.parent)}
    answer = subprocess.run(
        [sys.executable, "-S", "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    others, own = answer.stdout.splitlines()
    assert set(others.split()) <= {"api_hour", "__main__", "__mp_main__"}
    package = ["api_hour", *(f"api_hour.{name}" for name in OF_THE_PACKAGE), embedded.__name__]
    modules = [f"{embedded.__name__}.{name}" for name in OF_THE_PLUGIN]
    assert own.split() == sorted([*package, *modules])


def test_importing_the_package_loads_none_of_its_modules() -> None:
    program = f"import sys, {embedded.__name__}; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", program], text=True).split()
    assert [name for name in loaded if name.startswith(embedded.__name__)] == [embedded.__name__]
