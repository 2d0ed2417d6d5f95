"""``logging.yaml``: the configuration of logs in the form of Python's own dictConfig.

Here it is read and tried; ``logs/setup.py`` applies it.
"""

import errno
import inspect
import logging
import os
import pkgutil
from collections.abc import Iterator
from contextlib import suppress
from logging.handlers import BaseRotatingHandler, QueueHandler
from typing import Any, Literal

import msgspec

from api_hour.config import convert
from api_hour.config.yaml_document import Document, Keys, at
from api_hour.exceptions import ConfigError
from api_hour.logs import files, setup
from api_hour.logs.setup import Settings

Level = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
Parts = dict[str, dict[str, Any]]  # formatters, filters or handlers, by name


class _Root(msgspec.Struct, forbid_unknown_fields=True):
    level: Level
    handlers: list[str]


class _Logger(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    level: Level | None = None
    handlers: list[str] = []
    filters: list[str] = []
    propagate: bool = True


class _File(msgspec.Struct, forbid_unknown_fields=True):
    """What logging.yaml may hold."""

    root: _Root
    handlers: Parts
    version: Literal[1] = 1
    formatters: Parts = {}
    filters: Parts = {}
    loggers: dict[str, _Logger] = {}


def read(document: Document, package: str) -> Settings:
    """Return the settings of ``logging.yaml``, {} without one; raises ConfigError.

    The master tries them, too, so that a mistake is found before a worker starts. That is why they
    may name no class of the project's ``package``: the master imports no project code.
    """
    if not document.marks:
        return {}
    settings: Settings = msgspec.to_builtins(convert.convert(document, _File))
    for keys, section in _references(settings):
        name = at(settings, keys)
        if not isinstance(name, str) or name not in settings[section]:
            choices = " or ".join(map(repr, settings[section])) or f"one of {section}"
            message = f"{document.name(keys)} must be {choices}, got {document.got(keys)}"
            raise document.error(keys, message)
    for keys in _classes(settings):
        if str(at(settings, keys)).partition(".")[0] == package:
            message = f"{document.name(keys)} must not be of {package}: only workers import it"
            raise document.error(keys, message)
    for name, part in settings["handlers"].items():
        if issubclass(_class_of(part), QueueHandler):
            message = (
                f"handlers.{name} must not be a QueueHandler, whose listener nobody starts: name "
                "the handler behind it, or start a QueueListener in engines()"
            )
            raise document.error(("handlers", name, "class"), message)
    return settings


def warnings(settings: Settings) -> Iterator[str]:
    """Yield a warning for each handler that loses lines of a daemon of several processes."""
    for name, part in settings.get("handlers", {}).items():
        if issubclass(_class_of(part), BaseRotatingHandler):
            yield (
                f"logging.yaml: handlers.{name} may lose lines: every process rotates the file; "
                "name logging.handlers.WatchedFileHandler, and let logrotate do it"
            )


def _references(settings: Settings) -> Iterator[tuple[Keys, str]]:
    """Yield the keys of each reference, and the section that must define what it names."""
    for name, handler in settings["handlers"].items():
        if "formatter" in handler:
            yield ("handlers", name, "formatter"), "formatters"
    users: dict[Keys, Settings] = {("root",): settings["root"]}
    users |= {("loggers", name): logger for name, logger in settings["loggers"].items()}
    for keys, user in users.items():
        for number in range(len(user.get("handlers", ()))):
            yield (*keys, "handlers", number), "handlers"
        for number in range(len(user.get("filters", ()))):
            yield (*keys, "filters", number), "filters"


def _classes(settings: Settings) -> Iterator[Keys]:
    """Yield the keys of each class that is named."""
    for section in ("formatters", "filters", "handlers"):
        for name, part in settings[section].items():
            yield from ((section, name, key) for key in ("class", "()") if key in part)


def try_out(document: Document, settings: Settings) -> None:
    """Make every part once; raises ConfigError for one that cannot be made."""
    if not settings:
        return
    handlers = {name: _delayed(part) for name, part in settings["handlers"].items()}
    try:
        made = setup.make({**settings, "handlers": handlers})
        for name, handler in made.config["handlers"].items():
            _look_at_file(name, handler)
    except setup.Unusable as error:
        keys, cause = error.args
        message = f"{document.name(keys)} cannot be made: {convert.censored(document, cause)}"
        raise document.error(keys, message) from error
    for handler in made.config["handlers"].values():
        handler.close()


def _delayed(part: dict[str, Any]) -> dict[str, Any]:
    """Return a handler's settings, such that it does not open its file.

    A running service may be writing it, and the first who opens it becomes its owner.
    """
    kind = _class_of(part)
    if issubclass(kind, logging.FileHandler) and "delay" in inspect.signature(kind).parameters:
        return {**part, "delay": True}
    return part


def _class_of(part: dict[str, Any]) -> type:
    """Return a handler's class; ``object`` where it is not one, which making it tells."""
    with suppress(Exception):
        kind = pkgutil.resolve_name(part["class"])
        return kind if isinstance(kind, type) else object
    return object


def _look_at_file(name: str, handler: logging.Handler) -> None:
    """Raise Unusable if the file of a handler could not be written."""
    if not isinstance(handler, logging.FileHandler):
        return
    path = handler.baseFilename
    try:
        files.refuse_foreign(path)
        with suppress(FileNotFoundError):
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
            return
        if not os.access(os.path.dirname(path), os.W_OK):
            os.stat(os.path.dirname(path))
            raise PermissionError(errno.EACCES, "Permission denied", path)
    except (OSError, ConfigError) as error:
        raise setup.Unusable(("handlers", name), f"{type(error).__name__}: {error}") from error
