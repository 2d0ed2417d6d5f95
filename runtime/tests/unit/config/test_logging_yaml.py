"""logging.yaml: every mistake is found when it is read, with file and line."""

import logging
from pathlib import Path

import pytest

from api_hour.config import yaml_document
from api_hour.config.logging_yaml import read, try_out, warnings
from api_hour.exceptions import ConfigError
from api_hour.logs.setup import Settings
from runtime.tests.logging_file import FILE


def load(path: str | Path, package: str) -> Settings:
    document = yaml_document.load(path)
    settings = read(document, package)
    try_out(document, settings)
    return settings


MISTAKES = {
    "it is not YAML": ("root: [", "etc/hello/logging.yaml:1: "),
    "it is empty": ("# nothing\n", "etc/hello/logging.yaml:1: root is missing: add it"),
    "a key is unknown": (
        FILE.replace("loggers:", "logers:"),
        "etc/hello/logging.yaml:14: logers is not a known key; did you mean loggers?",
    ),
    "the form is another": (
        FILE.replace("formatter: !env LOG_FORMAT:text", "formatter: jsn"),
        "etc/hello/logging.yaml:5: handlers.console.formatter must be 'text' or 'json', got 'jsn'",
    ),
    "the form is a list": (
        FILE.replace("formatter: !env LOG_FORMAT:text", "formatter: [text]"),
        "etc/hello/logging.yaml:5: handlers.console.formatter must be 'text' or 'json', "
        "got a list of 1",
    ),
    "the form comes from the environment": (
        FILE.replace("LOG_FORMAT:text", "NOT_SET_ANYWHERE:jsn"),
        "etc/hello/logging.yaml:5: handlers.console.formatter must be 'text' or 'json', "
        "got the value of !env NOT_SET_ANYWHERE",
    ),
    "a level is unknown": (
        FILE.replace("    level: INFO", "    level: LOUD"),
        "etc/hello/logging.yaml:16: loggers.gunicorn.access.level must be one of ",
    ),
    "a handler is unknown": (
        FILE.replace("[console]", "[console, other]"),
        "etc/hello/logging.yaml:13: root.handlers[1] must be 'console', got 'other'",
    ),
    "a filter of a logger is unknown": (
        FILE.replace("    level: INFO", "    filters: [nosuch]"),
        "etc/hello/logging.yaml:16: loggers.gunicorn.access.filters[0] must be one of filters, "
        "got 'nosuch'",
    ),
    "a handler needs a listener": (
        FILE.replace("api_hour.logs.NonBlockingHandler", "logging.handlers.QueueHandler"),
        "etc/hello/logging.yaml:4: handlers.console must not be a QueueHandler, whose listener "
        "nobody starts: name the handler behind it, or start a QueueListener in engines()",
    ),
    "the root has no handler": (
        FILE.replace("  handlers: [console]\n", ""),
        "etc/hello/logging.yaml:11: root.handlers is missing: add it",
    ),
    "a class does not exist": (
        FILE.replace("api_hour.logs.JSONFormatter", "api_hour.logs.Jason"),
        "etc/hello/logging.yaml:9: formatters.json cannot be made: ",
    ),
    "an argument is unknown": (
        FILE.replace("    formatter:", "    colour: red\n    formatter:"),
        "etc/hello/logging.yaml:3: handlers.console cannot be made: TypeError: ",
    ),
    "a folder does not exist": (
        FILE.replace(
            "api_hour.logs.NonBlockingHandler", "logging.FileHandler\n    filename: no/such/x.log"
        ),
        "etc/hello/logging.yaml:3: handlers.console cannot be made: FileNotFoundError: ",
    ),
    "a class is the project's own": (
        FILE.replace("api_hour.logs.NonBlockingHandler", "hello.logs.Handler"),
        "etc/hello/logging.yaml:4: handlers.console.class must not be of hello: only workers",
    ),
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return the folder of a project with a ``logging.yaml``."""
    (tmp_path / "etc" / "hello").mkdir(parents=True)
    write(tmp_path, FILE)
    return tmp_path


def write(project: Path, text: str) -> None:
    (project / "etc" / "hello" / "logging.yaml").write_text(text)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_with_file_and_line(
    mistake: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, expected = MISTAKES[mistake]
    write(project, text)
    monkeypatch.chdir(project)
    with pytest.raises(ConfigError) as caught:
        load("etc/hello/logging.yaml", "hello")
    assert str(caught.value).startswith(expected)
    assert "\n" not in str(caught.value)


def test_trying_the_file_out_leaves_the_logs_as_they_are(project: Path) -> None:
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    assert load(project / "etc" / "hello" / "logging.yaml", "hello")["root"]["level"] == "INFO"
    assert (root.level, root.handlers) == before


def test_without_the_file_there_are_no_settings(tmp_path: Path) -> None:
    assert load(tmp_path / "logging.yaml", "hello") == {}


def test_handlers_that_point_to_others_are_made_after_them(project: Path) -> None:
    memory = "  buffer:\n    class: logging.handlers.MemoryHandler\n    capacity: 9\n"
    write(project, FILE.replace("handlers:\n  c", f"handlers:\n{memory}    target: console\n  c"))
    assert "buffer" in load(project / "etc" / "hello" / "logging.yaml", "hello")["handlers"]


def test_trying_the_file_out_leaves_the_files_of_the_logs_as_they_are(project: Path) -> None:
    kept, new = project / "kept.log", project / "new.log"
    kept.write_text("precious")
    handlers = "".join(
        f"  {name}:\n    class: logging.FileHandler\n    filename: {path}\n    mode: w\n"
        for name, path in {"kept": kept, "new": new}.items()
    )
    write(project, FILE.replace("handlers:\n", f"handlers:\n{handlers}", 1))
    load(project / "etc" / "hello" / "logging.yaml", "hello")
    assert kept.read_text() == "precious"
    assert not new.exists()


def test_a_handler_that_rotates_its_file_itself_is_warned_of(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = "logging.handlers.TimedRotatingFileHandler\n    filename: app.log"
    write(project, FILE.replace("api_hour.logs.NonBlockingHandler", own))
    monkeypatch.chdir(project)
    [warning] = warnings(load("etc/hello/logging.yaml", "hello"))
    assert warning.startswith("logging.yaml: handlers.console may lose lines: ")
