"""Where records go: to the handlers of ``logging.yaml``, or to Gunicorn's own without one.

``config.logging_yaml`` reads the file and tries it, with ``make``; the master and every worker
``apply`` it.
"""

import logging
from collections.abc import Mapping
from logging.config import DictConfigurator
from typing import Any, Protocol

from api_hour.logs import NonBlockingHandler, TextFormatter

PROCESS_MANAGER = ("api_hour.master", "api_hour.worker")  # loggers
Settings = Mapping[str, Any]  # logging.yaml in dictConfig's form; empty without one


class Unusable(Exception):
    """A part of the settings that cannot be made: its keys, and the cause."""


class GunicornLogger(Protocol):
    """The part of Gunicorn's untyped Logger that is used here."""

    cfg: Any
    error_log: logging.Logger
    access_log: logging.Logger

    def setup(self, cfg: Any) -> None:
        """Install Gunicorn's own handlers."""

    def error(self, msg: str, *args: object) -> None:
        """Log an error."""


def make(settings: Settings) -> DictConfigurator:
    """Make formatters, filters and handlers without installing any; raises Unusable."""
    made = DictConfigurator(dict(settings))
    makers = {
        "formatters": made.configure_formatter,
        "filters": made.configure_filter,
        "handlers": made.configure_handler,
    }
    for section, make_part in makers.items():
        parts = made.config[section]
        # A handler with a target (MemoryHandler) refers to another one, so it is made after it.
        for name in sorted(parts, key=lambda name: ("target" in parts[name], name)):
            try:
                parts[name] = make_part(parts[name])
            except Exception as error:  # any class may stand there, and raise anything
                cause = error.__cause__ or error
                raise Unusable((section, name), f"{type(cause).__name__}: {cause}") from error
    return made


def apply(settings: Settings, gunicorn: GunicornLogger) -> None:
    """Send records where ``settings`` say, or to Gunicorn's handlers when they are empty.

    Settings that were tried and do not work any more (a folder that was removed, say) leave the
    daemon with Gunicorn's handlers and one error: a daemon never ends because of its log.
    """
    if not settings:
        _use_gunicorn_handlers(gunicorn)
        return
    try:
        made = make(settings)
    except Unusable as error:
        _use_gunicorn_handlers(gunicorn)
        keys, cause = error.args
        gunicorn.error("logging.yaml cannot be applied: %s: %s", ".".join(keys), cause)
        return
    _reset_loggers()
    for name in settings["loggers"]:
        made.configure_logger(name, made.config["loggers"][name])
    made.configure_root(made.config["root"])
    for logger in _known_loggers():
        _replace_blocking_handlers(logger)


def _use_gunicorn_handlers(gunicorn: GunicornLogger) -> None:
    """Let Gunicorn's handlers write all records, in the form of ``TextFormatter``."""
    root = logging.getLogger()
    if gunicorn.error_log.propagate:  # a logging.yaml was applied before
        _reset_loggers()
        gunicorn.setup(gunicorn.cfg)
    for logger in (gunicorn.error_log, gunicorn.access_log):
        logger.propagate = False
        for handler in filter(_is_gunicorn_handler, logger.handlers):
            if isinstance(handler, logging.StreamHandler):
                handler.setFormatter(TextFormatter())
        _replace_blocking_handlers(logger)
    # The project's own records go the same way, unless gunicorn.conf.py gave the root handlers.
    if all(map(_is_gunicorn_handler, root.handlers)):
        root.handlers = list(gunicorn.error_log.handlers)
        root.setLevel(gunicorn.error_log.getEffectiveLevel())
    for logger in map(logging.getLogger, PROCESS_MANAGER):
        logger.handlers = list(gunicorn.error_log.handlers)
        logger.setLevel(gunicorn.error_log.level)
        logger.propagate = False


def _reset_loggers() -> None:
    """Undo what another ``logging.yaml``, or Gunicorn, has set up."""
    for logger in _known_loggers():
        for handler in list(logger.handlers):
            logger.removeHandler(handler)
            handler.close()
        logger.setLevel(logging.NOTSET)
        logger.propagate = True


def _known_loggers() -> list[logging.Logger]:
    loggers = logging.root.manager.loggerDict.values()  # loggers, and placeholders between them
    return [logging.root, *(logger for logger in loggers if isinstance(logger, logging.Logger))]


def _replace_blocking_handlers(logger: logging.Logger) -> None:
    """Replace the handlers that write to a stream: nothing may wait for a reader of the log."""
    for number, old in enumerate(logger.handlers):
        if type(old) is logging.StreamHandler and hasattr(old.stream, "fileno"):
            new = NonBlockingHandler(old.stream)
            new.setFormatter(old.formatter)
            new.setLevel(old.level)
            new.__dict__["_gunicorn"] = _is_gunicorn_handler(old)
            logger.handlers[number] = new


def _is_gunicorn_handler(handler: logging.Handler) -> bool:
    return bool(getattr(handler, "_gunicorn", False))  # the mark that Gunicorn sets itself
