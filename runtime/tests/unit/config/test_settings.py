"""The process manager's settings: one meaning in YAML, gunicorn.conf.py and on the command line."""

from typing import Any

import pytest
from gunicorn.config import Config

from api_hour.config import settings  # it registers the settings that Config() knows

GOOD: dict[str, list[tuple[Any, Any]]] = {
    "access_log_skip": [("/metrics, /health/", ["/metrics", "/health/"]), (["/"], ["/"])],
    "balance": [("slots", "slots")],
    "body_min_rate": [("1K", 1024), (0, 0)],
    "body_timeout": [("1.5", 1.5)],
    "boot_timeout": [("1.5", 1.5), (2, 2.0)],
    "drain_idle": [("0", 0.0)],
    "fast": [("false", False), (True, True)],
    "keepalive": [("5", 5.0)],
    "header_timeout": [("1", 1.0)],
    "listen": [("http=tcp://127.0.0.1:80", ["http=tcp://127.0.0.1:80"])],
    "loop": [("uvloop", "uvloop")],
    "max_surge": [("3", 3)],
    "max_draining": [("3", 3), (0, 0)],
    "max_worker_age": [("60", 60.0)],
    "max_worker_age_jitter": [("1", 1.0)],
    "max_worker_rss": [("512M", 512 << 20), ("1g", 1 << 30), (4096, 4096)],
    "max_worker_rss_jitter": [("1K", 1024)],
    "metrics": [("true", True)],
    "proxy_headers": [
        ("Forwarded", ["forwarded"]),
        (["X-Forwarded-For", "x-forwarded-host"], ["x-forwarded-for", "x-forwarded-host"]),
        ([], []),
    ],
    "request_ids": [("true", True), (False, False)],
    "request_timeout": [("0", 0.0)],
    "send_timeout": [(0.5, 0.5)],
    "trusted_proxies": [("10.0.0.0/8,unix", ["10.0.0.0/8", "unix"]), (["::1"], ["::1"])],
    "stop_delay": [("5", 5.0)],
    "threads": [("4", 4)],
}
BAD: dict[str, Any] = {
    "access_log_skip": "metrics",
    "balance": "round",
    "body_min_rate": "-1",
    "body_timeout": "soon",
    "boot_timeout": "-1",
    "drain_idle": "inf",
    "fast": "perhaps",
    "header_timeout": -1,
    "keepalive": -1,
    "listen": "tcp://127.0.0.1:80",
    "loop": "trio",
    "max_surge": "0",
    "max_draining": "-1",
    "max_worker_age": "soon",
    "max_worker_age_jitter": True,
    "max_worker_rss": "12T",
    "max_worker_rss_jitter": "-5",
    "metrics": "some",
    "proxy_headers": "host",
    "request_ids": "few",
    "request_timeout": True,
    "send_timeout": "never",
    "threads": "0",
    "trusted_proxies": "proxy.example",
    "stop_delay": "nan",
}


@pytest.mark.parametrize(
    ("name", "given", "meant"),
    [(name, given, meant) for name, pairs in GOOD.items() for given, meant in pairs],
)
def test_a_good_value_is_understood_as_text_and_as_itself(
    name: str, given: Any, meant: Any
) -> None:
    config = Config()
    config.set(name, given)
    assert config.settings[name].get() == meant


@pytest.mark.parametrize("name", BAD)
def test_a_bad_value_is_refused_with_the_value_in_the_message(name: str) -> None:
    with pytest.raises(ValueError, match=str(BAD[name])):
        Config().set(name, BAD[name])


def test_every_setting_has_good_and_bad_examples_here() -> None:
    sections = {name: setting.section for name, setting in Config().settings.items()}
    ours = {name for name, section in sections.items() if section == "API-Hour"}
    without_value = {"auto_config", "check", "config_dir"}
    assert ours - without_value == set(GOOD) == set(BAD)


def test_a_tuple_of_the_python_file_is_a_list() -> None:
    assert settings.networks(("10.0.0.0/8", "unix")) == ["10.0.0.0/8", "unix"]
    assert settings.paths(("/health/", "/metrics")) == ["/health/", "/metrics"]
    assert settings.addresses(("http=tcp://127.0.0.1:1",)) == ["http=tcp://127.0.0.1:1"]


def test_a_number_that_the_system_does_not_take_is_refused() -> None:
    with pytest.raises(ValueError, match="must be no more than 2147483647, got '3000000000'"):
        settings.whole_number("3000000000")


@pytest.mark.parametrize("given", ["1025", 99999999999999999999])
def test_an_absurd_number_of_workers_is_refused_with_the_cure(given: Any) -> None:
    with pytest.raises(ValueError, match=f"up to 1024, or auto, got .?{given}"):
        Config().set("workers", given)
