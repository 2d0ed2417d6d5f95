"""Only open connections count as idle ones."""

import resource

import pytest

from benchmarks import idle
from benchmarks.case import CASES
from benchmarks.tests.conftest import Prepare


def test_connections_are_open_while_the_memory_is_read(prepare: Prepare) -> None:
    with prepare().start() as server:
        figure = idle.measure(server, CASES["index"], 50)
    assert figure.connections == 50
    assert 1_000_000 < figure.before.worker_rss < figure.after.worker_rss + 1_000_000


def test_connections_that_the_server_closes_do_not_count(prepare: Prepare) -> None:
    with prepare("close").start() as server:
        figure = idle.measure(server, CASES["index"], 20)
    assert figure.connections == 0


def test_a_server_that_accepts_no_more_is_measured_with_what_it_accepted(
    prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idle, "PATIENCE", 5.0)
    monkeypatch.setattr(idle, "WARMING", 8)
    with prepare("until=20").start() as server:
        figure = idle.measure(server, CASES["index"], 50)
    assert figure.connections == 12


def test_open_files_are_allowed_up_to_the_limit_of_the_system() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
        idle.allow(0)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (idle.SPARE, hard)
        idle.allow(hard)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
        idle.allow(0)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
