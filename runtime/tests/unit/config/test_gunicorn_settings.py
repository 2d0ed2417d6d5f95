"""Every setting of Gunicorn acts, is refused with its cure, or is warned of: no other way."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gunicorn.config import KNOWN_SETTINGS, validate_bool

from api_hour.config import gunicorn_settings
from api_hour.config.gunicorn_settings import (
    ACTS,
    ACTS_IN_OUR_WAY,
    OURS,
    REFUSED,
    REFUSED_BESIDE_LOGGING_YAML,
    WARNED,
)
from api_hour.config.loader import Loader
from api_hour.exceptions import ConfigError

ROOT = Path(__file__).parents[4]
GUNICORNS = {setting.name: setting for setting in KNOWN_SETTINGS if setting.section != OURS}
GROUPS = (ACTS, ACTS_IN_OUR_WAY, REFUSED, WARNED)

# The test that shows each setting at work: a file below runtime/tests, and a function in it.
SYSTEM = "system/test_gunicorn_settings.py::"
SHOWN_BY = {
    "config": "unit/config/test_loader.py::test_a_python_file_is_found_or_named",
    "bind": "unit/config/test_loader.py::test_gunicorns_addresses_mean_the_listener_http",
    "workers": "system/test_workers_auto.py::test_a_real_quota_is_obeyed",
    "ssl_context": "system/test_tls.py::test_the_hook_of_gunicorn_changes_the_context",
    "control_socket_disable": f"{SYSTEM}test_settings_of_the_master_act",
    "backlog": f"{SYSTEM}test_settings_of_the_master_act",
    "max_requests": f"{SYSTEM}test_a_worker_is_replaced_after_max_requests",
    "max_requests_jitter": f"{SYSTEM}test_a_worker_is_replaced_after_max_requests",
    "timeout": "system/test_arbiter.py::"
    "test_a_blocked_worker_is_aborted_and_the_log_shows_its_stack",
    "graceful_timeout": f"{SYSTEM}test_a_worker_is_replaced_after_max_requests",
    "reload": "system/test_reloader.py::test_edits_are_served_and_mistakes_are_survived",
    "spew": f"{SYSTEM}test_settings_of_the_master_act",
    "check_config": "system/test_command_line.py::"
    "test_gunicorns_own_checks_of_the_configuration_import_nothing",
    "print_config": "system/test_command_line.py::"
    "test_gunicorns_own_checks_of_the_configuration_import_nothing",
    "chdir": "system/test_addresses.py::test_etc_is_found_in_the_folder_of_chdir",
    "daemon": f"{SYSTEM}test_a_daemon_goes_to_the_background",
    "enable_stdio_inheritance": f"{SYSTEM}test_a_daemon_goes_to_the_background",
    "raw_env": f"{SYSTEM}test_settings_of_the_workers_act",
    "pidfile": f"{SYSTEM}test_settings_of_the_master_act",
    "worker_tmp_dir": f"{SYSTEM}test_settings_of_the_workers_act",
    "user": f"{SYSTEM}test_workers_run_as_the_user_and_groups",
    "group": f"{SYSTEM}test_workers_run_as_the_user_and_groups",
    "initgroups": f"{SYSTEM}test_workers_run_as_the_user_and_groups",
    "umask": "system/test_addresses.py::test_a_unix_socket_has_gunicorns_mode_and_owner",
    "accesslog": f"{SYSTEM}test_settings_of_the_workers_act",
    "disable_redirect_access_to_syslog": f"{SYSTEM}test_records_go_to_syslog",
    "errorlog": f"{SYSTEM}test_settings_of_the_master_act",
    "loglevel": f"{SYSTEM}test_settings_of_the_master_act",
    "capture_output": f"{SYSTEM}test_settings_of_the_master_act",
    "logger_class": f"{SYSTEM}test_settings_of_the_master_act",
    "syslog_addr": f"{SYSTEM}test_records_go_to_syslog",
    "syslog": f"{SYSTEM}test_records_go_to_syslog",
    "syslog_prefix": f"{SYSTEM}test_records_go_to_syslog",
    "syslog_facility": f"{SYSTEM}test_records_go_to_syslog",
    "proc_name": f"{SYSTEM}test_settings_of_the_master_act",
    "pythonpath": f"{SYSTEM}test_settings_of_the_workers_act",
    **dict.fromkeys(
        [
            "on_starting",
            "on_reload",
            "when_ready",
            "pre_fork",
            "post_fork",
            "post_worker_init",
            "child_exit",
            "worker_exit",
            "nworkers_changed",
            "on_exit",
            "pre_exec",
        ],
        f"{SYSTEM}test_every_hook_is_called",
    ),
}

Load = Callable[..., Loader]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Return a function that loads settings from one place, of the four that there are."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    etc = tmp_path / "etc" / "hello"
    etc.mkdir(parents=True)

    def write_and_load(*options: str, yaml: str = "", python: str = "", variable: str = "") -> Any:
        (etc / "main.yaml").write_text(yaml)
        (etc / "gunicorn.conf.py").write_text(python)
        monkeypatch.setenv("GUNICORN_CMD_ARGS", variable)
        monkeypatch.setattr(sys, "argv", ["api_hour", "hello:Container", *options])
        return Loader(object)

    return write_and_load


def other_than_default(setting: Any) -> Any:
    """Return a value for a setting, good or bad, that is not its default."""
    if setting.validator is validate_bool:
        return not setting.default
    return "another"


def on_command_line(setting: Any) -> list[str]:
    if setting.action in ("store_true", "store_const"):
        return [setting.cli[-1]]
    return [setting.cli[-1], "another"]


def test_every_setting_of_gunicorn_is_in_exactly_one_group() -> None:
    grouped = [name for group in GROUPS for name in group]
    assert len(grouped) == len(set(grouped))
    assert set(GUNICORNS) <= set(grouped)
    assert set(grouped) - set(GUNICORNS) <= gunicorn_settings.own()


def test_every_setting_that_acts_has_a_test_that_shows_it() -> None:
    assert set(SHOWN_BY) == {*ACTS, *ACTS_IN_OUR_WAY}
    for name, test in SHOWN_BY.items():
        file, _, function = test.partition("::")
        text = (ROOT / "runtime" / "tests" / file).read_text()
        assert f"def {function}(" in text, test
        named = [name, *(GUNICORNS[name].cli or [])]
        assert any(form in text for form in named), f"{file} never names {name}"


@pytest.mark.parametrize("name", [name for name in REFUSED if name in GUNICORNS])
def test_a_refused_setting_is_refused_from_every_place_with_its_cure(name: str, load: Load) -> None:
    setting, cure = GUNICORNS[name], f" cannot be set: {REFUSED[name]}; remove it"
    value = other_than_default(setting)
    places: list[tuple[dict[str, str], list[str], str]] = [
        (
            {"yaml": f"api_hour:\n  backlog: 9\n  {name}: {value}\n"},
            [],
            f"etc/hello/main.yaml:3: api_hour.{name}",
        ),
        (
            {"python": f"backlog = 9\n{name} = {value!r}\n"},
            [],
            f"etc/hello/gunicorn.conf.py:2: {name}",
        ),
    ]
    if setting.cli:
        option = on_command_line(setting)
        places += [
            ({"variable": " ".join(option)}, [], f"GUNICORN_CMD_ARGS: {option[0]}"),
            ({}, option, option[0]),
        ]
    for files, options, place in places:
        with pytest.raises(ConfigError) as error:
            load(*options, **files)
        assert str(error.value) == place + cure


def test_a_setting_without_effect_is_warned_of_and_at_its_default_it_is_not(load: Load) -> None:
    values = {name: GUNICORNS[name].default for name in (*REFUSED, *WARNED) if name in GUNICORNS}
    plain = {name: value for name, value in values.items() if type(value) in (str, int, bool, list)}
    assert len(plain) > 30
    python = "".join(f"{name} = {value!r}\n" for name, value in plain.items())
    assert load(python=python).generation.warnings == ()
    python = "sendfile = False\nhttp_parser = 'python'\nasgi_loop = 'uvloop'\n"
    warnings = load("--no-control-socket", "-ac", python=python).generation.warnings
    assert warnings == (
        f"etc/hello/gunicorn.conf.py:1: sendfile has no effect: {WARNED['sendfile']}",
        f"etc/hello/gunicorn.conf.py:2: http_parser has no effect: {WARNED['http_parser']}",
        f"etc/hello/gunicorn.conf.py:3: asgi_loop has no effect: {WARNED['asgi_loop']}",
        "--auto_config has no effect: the configuration is always found by the application's name",
    )


def test_what_a_newer_gunicorn_adds_is_warned_of(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = gunicorn_settings.known() - {"backlog", "timeout"}
    monkeypatch.setattr(gunicorn_settings, "known", lambda: known)
    assert load("--backlog", "9").generation.warnings == (
        "backlog may have no effect: this API-Hour does not know it",
    )


def test_beside_a_logging_yaml_the_settings_of_logs_are_refused(load: Load, tmp_path: Path) -> None:
    root = "root: {level: INFO, handlers: [none]}"
    logs = f"{{version: 1, handlers: {{none: {{class: logging.NullHandler}}}}, {root}}}"
    (tmp_path / "etc/hello/logging.yaml").write_text(logs)
    for name in REFUSED_BESIDE_LOGGING_YAML:
        with pytest.raises(ConfigError, match=rf"main.yaml:1: api_hour.{name} cannot be set"):
            load(yaml=f"api_hour: {{{name}: {other_than_default(GUNICORNS[name])}}}")


BAD = {
    "workers": "a whole number up to 1024, or auto",
    "timeout": "a whole number of zero or more",
    "umask": "a mask of file modes, as in 0o022",
    "spew": "true or false",
    "user": "a user of this machine",
    "group": "a group of this machine",
    "raw_env": "NAME=VALUE",
    "chdir": "a folder",
    "loglevel": "one of critical, error, warning, info, debug",
    "syslog_facility": "one of auth, ",
    "max_surge": "a whole number above zero",
    "boot_timeout": "seconds of zero or more",
    "loop": "auto or uvloop or asyncio",
    "listen": "NAME=URL, as in http=tcp://127.0.0.1:8000",
    "max_worker_rss": "bytes, as in 512M",
    "trusted_proxies": "networks or unix, as in 10.0.0.0/8,unix",
    "fast": "true or false",
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_value_is_named_with_what_is_wanted_from_every_place(name: str, load: Load) -> None:
    setting = next(setting for setting in KNOWN_SETTINGS if setting.name == name)
    option = f"{setting.cli[-1]}=wrong"
    places: dict[str, dict[str, str]] = {
        f"etc/hello/main.yaml:2: api_hour.{name}": {"yaml": f"api_hour:\n  {name}: wrong\n"},
        f"etc/hello/gunicorn.conf.py:1: {name}": {"python": f"{name} = 'wrong'\n"},
    }
    if setting.action is None:
        places[f"GUNICORN_CMD_ARGS: {setting.cli[-1]}"] = {"variable": option}
        with pytest.raises(ConfigError) as error:
            load(option)
        assert str(error.value).startswith(f"{setting.cli[-1]} must be {BAD[name]}")
    for place, files in places.items():
        with pytest.raises(ConfigError) as error:
            load(**files)
        assert str(error.value).startswith(f"{place} must be {BAD[name]}")
        assert ("'wrong'" in str(error.value)) is (name != "raw_env")  # which may be a secret


@pytest.mark.parametrize(
    ("given", "shown"),
    [("true", "got True"), ("0.5", "got 0.5"), ("null", "got None"), ("-1", "got -1")],
)
def test_a_number_is_a_number(given: str, shown: str, load: Load) -> None:
    with pytest.raises(ConfigError, match=f"timeout must be a whole number .*{shown}"):
        load(yaml=f"api_hour: {{timeout: {given}}}")


SECTIONS = (
    *("timeout: {}", "workers: {}", "max_worker_rss: {}", "loop: {}", "worker_tmp_dir: [{}]"),
    *("trusted_proxies: [10.0.0.0/8, {}]", "access_log_skip: {}", "proxy_headers: {}"),
    *("listen: {}", "bind: [{}, 7]", "user: {}", "raw_env: [{}]", "loglevel: {}", "umask: {}"),
    *("listeners: {{http: {}}}", "listeners: {{http: [{}]}}", "listeners: {}"),
    *("listeners: {{http: {{url: {}}}}}", "listeners: {{http: {{url: unix:/x, limit: {}}}}}"),
    *("syslog_facility: {}", "syslog: {}", "keepalive: {}"),
)


@pytest.mark.parametrize("value", ["Hunter2,Secret Place", "tcp://hunter2:secret@place:99999"])
def test_no_part_of_the_value_of_a_variable_is_printed(
    load: Load, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("VARIABLE", value)
    for section in SECTIONS:
        with pytest.raises(ConfigError) as error:
            load(yaml=f"api_hour: {{{section.format('!env VARIABLE')}}}")
        shown = str(error.value)
        assert not re.search("hunter|secret|place|99999", shown, re.IGNORECASE), shown


def test_an_error_shows_where_a_value_came_from(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    with pytest.raises(ConfigError, match=r"timeout must be .*, got '<!env SECRET>'"):
        load(yaml="api_hour: {timeout: !env SECRET}")


def test_a_variable_of_the_workers_without_a_name_is_not_printed(load: Load) -> None:
    with pytest.raises(ConfigError) as error:
        load(python="raw_env = ['A=1', 'hunter2']")
    assert str(error.value).endswith("raw_env must be NAME=VALUE: its item 2 is not")


def test_the_variable_of_options_is_checked_like_the_command_line(load: Load) -> None:
    for variable, fault in {
        "--timeou 3": "--timeou is not an option; did you mean --timeout?",
        "--name 'x": "No closing quotation",
        "other:Container": "'other:Container' is not an option: remove it",
        "--timeout": "-t/--timeout: expected one argument",
    }.items():
        with pytest.raises(ConfigError) as error:
            load(variable=variable)
        assert str(error.value) == f"GUNICORN_CMD_ARGS: {fault}"
