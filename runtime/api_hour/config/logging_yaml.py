"""The configuration of logs: ``logging.yaml`` in the form of Python's own dictConfig.

The master reads and tries it, master and workers apply it. What a line looks like is ``logs.py``'s.
"""

import logging
import os
from collections.abc import Iterator, Mapping
from logging.config import DictConfigurator
from typing import Any, Literal

import msgspec

from api_hour.config import convert, yaml_document
from api_hour.config.yaml_document import Document, Keys, at
from api_hour.logs import NonBlockingHandler, TextFormatter

Settings = Mapping[str, Any]
Level = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
Parts = dict[str, dict[str, Any]]


class _Root(msgspec.Struct, forbid_unknown_fields=True):
    level: Level
    handlers: list[str]


class _Logger(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    level: Level | None = None
    handlers: list[str] = []
    filters: list[str] = []
    propagate: bool = True


class _File(msgspec.Struct, forbid_unknown_fields=True):
    """Say what logging.yaml may hold."""

    root: _Root
    handlers: Parts
    version: Literal[1] = 1
    formatters: Parts = {}
    filters: Parts = {}
    loggers: dict[str, _Logger] = {}


class _Unusable(Exception):
    """Say which part of the settings cannot be made, and why."""


def load(path: str | os.PathLike[str], package: str) -> Settings:
    """Return what ``logging.yaml`` says, {} without one; raises ConfigError when it cannot work.

    It is tried out, so it may name no class of ``package``: the master imports no project.
    """
    document = yaml_document.load(path)
    if not document.places:
        return {}
    settings: Settings = msgspec.to_builtins(convert.convert(document, _File))
    for keys, section in _names(settings):
        if at(settings, keys) not in settings[section]:
            choices = " or ".join(map(repr, settings[section])) or f"one of {section}"
            message = f"{document.name(keys)} must be {choices}, got {document.got(keys)}"
            raise document.error(keys, message)
    for keys in _classes(settings):
        if str(at(settings, keys)).partition(".")[0] == package:
            message = f"{document.name(keys)} must not be of {package}: only workers import that"
            raise document.error(keys, message)
    _try(document, settings)
    return settings


def _names(settings: Settings) -> Iterator[tuple[Keys, str]]:
    """Yield the keys of each name of a formatter or handler, and the section that has it."""
    for name, handler in settings["handlers"].items():
        if "formatter" in handler:
            yield ("handlers", name, "formatter"), "formatters"
    users: dict[Keys, Settings] = {("root",): settings["root"]}
    users |= {("loggers", name): one for name, one in settings["loggers"].items()}
    for keys, user in users.items():
        for number in range(len(user.get("handlers", ()))):
            yield (*keys, "handlers", number), "handlers"


def _classes(settings: Settings) -> Iterator[Keys]:
    for section in ("formatters", "filters", "handlers"):
        for name, part in settings[section].items():
            yield from ((section, name, key) for key in ("class", "()") if key in part)


def _try(document: Document, settings: Settings) -> None:
    """Make everything once; raises ConfigError for what cannot be made."""
    try:
        made = _make(settings)
    except _Unusable as error:
        keys, cause = error.args
        message = f"{document.name(keys)} cannot be made: {convert.censored(document, cause)}"
        raise document.error(keys, message) from error
    for handler in made.config["handlers"].values():
        handler.close()


def _make(settings: Settings) -> DictConfigurator:
    """Make formatters, filters and handlers, and put none to use yet; raises _Unusable."""
    made = DictConfigurator(dict(settings))
    makers = {
        "formatters": made.configure_formatter,
        "filters": made.configure_filter,
        "handlers": made.configure_handler,
    }
    for section, make in makers.items():
        parts = made.config[section]
        for name in sorted(parts, key=lambda name: ("target" in parts[name], name)):
            try:
                parts[name] = make(parts[name])
            except Exception as error:  # whatever a class of somebody else raises
                cause = error.__cause__ or error
                raise _Unusable((section, name), f"{type(cause).__name__}: {cause}") from error
    return made


def apply(settings: Settings, daemon: Any) -> None:
    """Send records where ``settings`` say, or Gunicorn's own say when there are none.

    ``daemon`` is Gunicorn's Logger. What was tried and does not work any more, a folder that went
    away, leaves the daemon with Gunicorn's own and one error: it never ends for a log.
    """
    if not settings:
        return _gunicorns(daemon)
    try:
        made = _make(settings)
    except _Unusable as error:
        _gunicorns(daemon)
        keys, cause = error.args
        daemon.error("logging.yaml cannot be applied: %s: %s", ".".join(keys), cause)
        return None
    _forget()
    for name in settings["loggers"]:
        made.configure_logger(name, made.config["loggers"][name])
    made.configure_root(made.config["root"])
    for logger in _loggers():
        _unblock(logger)
    return None


def _gunicorns(daemon: Any) -> None:
    """Let Gunicorn's own handlers write all records, in the form of ``TextFormatter``."""
    root = logging.getLogger()
    if daemon.error_log.propagate:  # there was a logging.yaml
        _forget()
        daemon.setup(daemon.cfg)
    for logger in (daemon.error_log, daemon.access_log):
        logger.propagate = False
        for handler in filter(_is_gunicorns, logger.handlers):
            if isinstance(handler, logging.StreamHandler):
                handler.setFormatter(TextFormatter())
        _unblock(logger)
    if all(map(_is_gunicorns, root.handlers)):
        root.handlers = list(daemon.error_log.handlers)
        root.setLevel(daemon.error_log.getEffectiveLevel())


def _forget() -> None:
    """Undo what another ``logging.yaml``, or Gunicorn, has set up."""
    for logger in _loggers():
        for handler in list(logger.handlers):
            logger.removeHandler(handler)
            handler.close()
        logger.setLevel(logging.NOTSET)
        logger.propagate = True


def _loggers() -> list[logging.Logger]:
    known = logging.root.manager.loggerDict.values()
    return [logging.root, *(one for one in known if isinstance(one, logging.Logger))]


def _unblock(logger: logging.Logger) -> None:
    """Replace handlers that write to a stream by such as never wait."""
    for number, old in enumerate(logger.handlers):
        if type(old) is logging.StreamHandler and hasattr(old.stream, "fileno"):
            new = NonBlockingHandler(old.stream)
            new.setFormatter(old.formatter)
            new.setLevel(old.level)
            new.__dict__["_gunicorn"] = _is_gunicorns(old)
            logger.handlers[number] = new


def _is_gunicorns(handler: logging.Handler) -> bool:
    return bool(getattr(handler, "_gunicorn", False))  # Gunicorn's own mark
