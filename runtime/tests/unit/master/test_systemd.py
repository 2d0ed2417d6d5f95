"""The sockets that systemd hands over, by the variables of sd_listen_fds(3)."""

import os

import pytest

from api_hour.master import systemd


def test_another_process_environment_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", "1")
    monkeypatch.setenv("LISTEN_FDS", "1")
    assert systemd.activated() == []
    assert "LISTEN_FDS" not in os.environ


def test_names_that_are_missing_are_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "3")
    monkeypatch.setenv("LISTEN_FDNAMES", "http:admin")
    assert systemd.activated() == [("http", 3), ("admin", 4), ("unknown", 5)]
