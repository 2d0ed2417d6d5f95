"""The options of a server: every field has one source, and none has to be copied by hand."""

import ssl
from typing import Any

import pytest
from gunicorn.config import Config

import api_hour.config.settings  # noqa: F401 - it registers the settings that Config() knows
from api_hour.config.addresses import Address
from api_hour.config.generation import Generation
from api_hour.config.yaml_document import Document
from api_hour.container import ServerOptions
from api_hour.worker.process import server_options


def generation(logs: dict[str, Any] | None = None, **settings: object) -> Generation:
    cfg = Config()
    for name, value in settings.items():
        cfg.set(name, value)
    listener = {"url": "tcp://127.0.0.1:0", "max_connections": 7}
    addresses = {"http": Address.read("http", listener)}
    return Generation("hello:Container", "/", cfg, Document(), addresses, logs or {})


def test_each_option_comes_from_the_setting_or_the_listeners_option_of_its_name() -> None:
    context = ssl.create_default_context()
    given: dict[str, Any] = {
        "fast": False,
        "request_ids": True,
        "access_log_skip": ["/health/"],
        "metrics": True,
        "drain_idle": 2.5,
        "trusted_proxies": ["10.0.0.0/8", "unix"],
    }
    options = server_options(generation(**given), "http", context)
    assert options == ServerOptions(listener="http", tls=context, max_connections=7, **given)


@pytest.mark.parametrize(
    ("logs", "settings", "logged"),
    [
        ({}, {}, False),
        ({}, {"accesslog": "-"}, True),
        ({"root": {}}, {}, True),
        ({"root": {}}, {"reload": True}, False),
    ],
)
def test_access_is_logged_if_asked_for_or_by_logging_yaml_outside_of_development(
    logs: dict[str, Any], settings: dict[str, Any], logged: bool
) -> None:
    assert server_options(generation(logs, **settings), "http", None).access_log is logged


def test_a_developer_does_not_wait_for_idle_connections() -> None:
    assert server_options(generation(reload=True, drain_idle=9), "http", None).drain_idle == 0.0
