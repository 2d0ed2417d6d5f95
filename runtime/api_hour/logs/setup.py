"""Where records go: to the handlers of ``logging.yaml``, or to Gunicorn's own without one.

``config.logging_yaml`` reads the file and tries it, with ``make``; the master and every worker
``apply`` it. Whoever logs must not learn what goes wrong with that: a handler or a filter that
raises would end a request, or the master. So ``guard`` catches it, and ``observers`` tell it.
"""

import logging
import logging.handlers
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from logging.config import DictConfigurator
from typing import Any, Protocol

from api_hour.exceptions import ConfigError
from api_hour.logs import NonBlockingHandler, TextFormatter, files, observers

PROCESS_MANAGER = ("api_hour.master", "api_hour.worker")  # loggers
OPENED = ("errorlog", "accesslog", "syslog_addr", "logger_class")  # settings
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

    def reopen_files(self) -> None:
        """Open the files of all handlers again: they may have been rotated."""


@contextmanager
def opening(veiled: Settings) -> Iterator[None]:
    """Raise ConfigError if Gunicorn's logger, which is set up in the block, cannot be.

    ``veiled`` are settings of ``!env`` and ``!file``, as they may be shown.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        if hidden := [f"{name} is {veiled[name]}" for name in OPENED if name in veiled]:
            known = error.strerror if isinstance(error, OSError) else ""  # without a path
            reason = ": ".join(filter(None, [", ".join(hidden), known]))
        raise ConfigError(
            f"the log cannot be opened ({', '.join(OPENED[:-1])} or {OPENED[-1]}): {reason}"
        ) from None


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
                if section == "handlers":
                    _let_open_safely(parts[name])
                parts[name] = make_part(parts[name])
            except Exception as error:  # any class may stand there, and raise anything
                cause = error.__cause__ or error
                raise Unusable((section, name), f"{type(cause).__name__}: {cause}") from error
    return made


def _let_open_safely(part: Any) -> None:
    """Replace the class of a handler that opens a file, as ``FileHandler`` does."""
    key = "()" if "()" in part else "class"
    with suppress(Exception):  # what is wrong with the name is told when the handler is made
        kind = pkgutil.resolve_name(part[key])
        if issubclass(kind, logging.FileHandler):
            del part[key]
            part["()"] = files.safe(kind)


def apply(settings: Settings, gunicorn: GunicornLogger) -> None:
    """Send records where ``settings`` say, or to Gunicorn's handlers when they are empty.

    Settings that were tried and do not work any more (a folder that was removed, say) leave the
    daemon with Gunicorn's handlers and one error: a daemon never ends because of its log.
    """
    try:
        _install(settings, gunicorn)
    except Exception as error:  # Gunicorn's own files may be out of reach by now
        observers.failed("log", error)
        if not logging.root.handlers:
            logging.root.addHandler(NonBlockingHandler())
            logging.root.setLevel(logging.INFO)
    gunicorn.reopen_files = partial(_reopen_files, gunicorn)  # type: ignore[method-assign]
    guard()


def guard() -> None:
    """Keep from those who log what handlers, filters and record factories of this process raise.

    Called again whenever code of the project may have added some.
    """
    for logger in _known_loggers():
        logger.filters = [*map(_guarded_filter, logger.filters)]
        for handler in logger.handlers:
            _guard_handler(handler)
    factory = logging.getLogRecordFactory()
    if factory is not logging.LogRecord and not isinstance(factory, _GuardedFactory):
        logging.setLogRecordFactory(_GuardedFactory(factory))


def _install(settings: Settings, gunicorn: GunicornLogger) -> None:
    if not settings:
        _use_gunicorn_handlers(gunicorn)
        return
    try:
        made = make(settings)
        _reset_loggers()
        for name in settings["loggers"]:
            made.configure_logger(name, made.config["loggers"][name])
        made.configure_root(made.config["root"])
    except Exception as error:
        _reset_loggers()
        _use_gunicorn_handlers(gunicorn)
        gunicorn.error("logging.yaml cannot be applied: %s", _explain(error))
        return
    for logger in _known_loggers():
        _replace_blocking_handlers(logger)


def _explain(error: Exception) -> str:
    if isinstance(error, Unusable):
        keys, cause = error.args
        return f"{'.'.join(keys)}: {cause}"
    return f"{type(error).__name__}: {error.__cause__ or error}"


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
            _try(handler.close)  # which writes what a full disk has not taken yet
        logger.setLevel(logging.NOTSET)
        logger.propagate = True


def _known_loggers() -> list[logging.Logger]:
    loggers = logging.root.manager.loggerDict.values()  # loggers, and placeholders between them
    return [logging.root, *(logger for logger in loggers if isinstance(logger, logging.Logger))]


def _replace_blocking_handlers(logger: logging.Logger) -> None:
    """Replace the handlers that write to a stream: nothing may wait for a reader of the log."""
    logger.handlers[:] = map(_unblocked, logger.handlers)
    for handler in logger.handlers:
        if isinstance(handler, logging.handlers.MemoryHandler) and handler.target:
            handler.target = _unblocked(handler.target)


def _unblocked(old: Any) -> Any:
    """Return a handler that writes to the same stream without waiting; others as they are."""
    if type(old) is logging.StreamHandler and hasattr(old.stream, "fileno"):
        new = NonBlockingHandler(old.stream)
    elif files.may_wait(old):
        new = NonBlockingHandler(old.stream)
        old.close()  # the new one has a descriptor of its own
    else:
        return old
    new.setFormatter(old.formatter)
    new.setLevel(old.level)
    new.filters = old.filters
    new.__dict__["_gunicorn"] = _is_gunicorn_handler(old)
    return new


def _is_gunicorn_handler(handler: logging.Handler) -> bool:
    return bool(getattr(handler, "_gunicorn", False))  # the mark that Gunicorn sets itself


def _reopen_files(gunicorn: GunicornLogger) -> None:
    """Open the files of all handlers again; one that cannot be opened keeps no other from it."""
    _try(partial(type(gunicorn).reopen_files, gunicorn))  # which leaves the root's handlers out
    found = {handler for logger in _known_loggers() for handler in logger.handlers}
    for handler in found:
        if isinstance(handler, logging.FileHandler):
            _try(partial(files.reopen, handler))


def _guard_handler(handler: logging.Handler) -> None:
    handler.filters = [*map(_guarded_filter, handler.filters)]
    if type(handler).handle is NonBlockingHandler.handle or "handle" in vars(handler):
        return
    vars(handler)["handle"] = partial(_handle, handler.handle)
    vars(handler)["handleError"] = partial(_handle_error, handler)
    target = getattr(handler, "target", None)  # of a MemoryHandler
    if isinstance(target, logging.Handler):
        _guard_handler(target)


def _handle(handle: Callable[[logging.LogRecord], Any], record: logging.LogRecord) -> Any:
    try:
        return handle(record)
    except BaseException as error:  # a handler of any class: SystemExit would end the worker
        observers.failed("log", error)
        return False


def _handle_error(handler: logging.Handler, _record: logging.LogRecord) -> None:
    """Tell what ``emit`` raised; ``logging`` would print it for each record, and wait for that."""
    error = sys.exception()
    observers.failed("log", error or RuntimeError(f"{type(handler).__name__} failed"))
    if isinstance(handler, logging.handlers.SocketHandler) and handler.closeOnError:
        connection, handler.sock = handler.sock, None  # it connects again for the next record
        if connection is not None:
            connection.close()


class _GuardedFilter:
    """A filter that drops a record when the original raises: it may be there to hide a secret."""

    def __init__(self, original: Any) -> None:
        self.original = original
        self._filter = getattr(original, "filter", original)

    def __eq__(self, other: object) -> bool:  # so that removeFilter() finds the original
        return other is self or bool(other == self.original)

    __hash__ = object.__hash__

    def filter(self, record: logging.LogRecord) -> Any:
        """Return what the original filter says of ``record``."""
        try:
            return self._filter(record)
        except BaseException as error:
            observers.failed("log", error)
            return False


def _guarded_filter(original: Any) -> _GuardedFilter:
    return original if isinstance(original, _GuardedFilter) else _GuardedFilter(original)


class _GuardedFactory:
    """A factory of records that makes plain ones when the original raises."""

    def __init__(self, original: Callable[..., logging.LogRecord]) -> None:
        self._original = original

    def __call__(self, *arguments: Any, **options: Any) -> logging.LogRecord:
        """Return a new record."""
        try:
            return self._original(*arguments, **options)
        except BaseException as error:
            observers.failed("log", error)
            return logging.LogRecord(*arguments, **options)


def _try(act: Callable[[], object]) -> bool:
    """Return whether ``act`` has not raised."""
    try:
        act()
    except Exception as error:
        observers.failed("log", error)
        return False
    return True
