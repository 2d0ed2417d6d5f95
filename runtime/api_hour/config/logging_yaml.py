"""``logging.yaml``: the configuration of logs in the form of Python's own dictConfig.

Here it is read and tried; ``logs/setup.py`` applies it.
"""

import os
from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from api_hour.config import convert, yaml_document
from api_hour.config.yaml_document import Document, Keys, at
from api_hour.logs import setup
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


def load(path: str | os.PathLike[str], package: str) -> Settings:
    """Return the settings of ``logging.yaml``, {} without one; raises ConfigError.

    The master tries them, so that a mistake is found before a worker starts. That is why they may
    name no class of the project's ``package``: the master imports no project code.
    """
    document = yaml_document.load(path)
    if not document.marks:
        return {}
    settings: Settings = msgspec.to_builtins(convert.convert(document, _File))
    for keys, section in _references(settings):
        if at(settings, keys) not in settings[section]:
            choices = " or ".join(map(repr, settings[section])) or f"one of {section}"
            message = f"{document.name(keys)} must be {choices}, got {document.got(keys)}"
            raise document.error(keys, message)
    for keys in _classes(settings):
        if str(at(settings, keys)).partition(".")[0] == package:
            message = f"{document.name(keys)} must not be of {package}: only workers import it"
            raise document.error(keys, message)
    _try(document, settings)
    return settings


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


def _classes(settings: Settings) -> Iterator[Keys]:
    """Yield the keys of each class that is named."""
    for section in ("formatters", "filters", "handlers"):
        for name, part in settings[section].items():
            yield from ((section, name, key) for key in ("class", "()") if key in part)


def _try(document: Document, settings: Settings) -> None:
    """Make every part once; raises ConfigError for one that cannot be made."""
    try:
        made = setup.make(settings)
    except setup.Unusable as error:
        keys, cause = error.args
        message = f"{document.name(keys)} cannot be made: {convert.censored(document, cause)}"
        raise document.error(keys, message) from error
    for handler in made.config["handlers"].values():
        handler.close()
