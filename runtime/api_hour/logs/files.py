"""Files of the logs: root opens them without being led elsewhere by who may write to their folder.

Often that is the workers' user, who owns the folder of the logs, or a group, as of ``/var/log`` on
some systems. He may remove or replace a log, and no more: root writes to no file that is neither
its own nor the workers'.
"""

import logging
import os
import stat
from collections.abc import Collection
from contextlib import suppress
from typing import IO, Any, NamedTuple

from api_hour import owned_files
from api_hour.owned_files import ROOT


class Owners(NamedTuple):
    """Who writes the logs: the workers' user and group; and whom root trusts."""

    user: int = ROOT
    group: int = ROOT
    trusted: Collection[int] = (ROOT,)


_owners = Owners()


def belong_to(owners: Owners) -> None:
    """Set the owners of the logs of this process."""
    global _owners
    _owners = owners


def open_log(path: str, mode: str = "a", **options: Any) -> IO[Any]:
    """Open a file as ``open`` does; a new one belongs to the workers' user.

    Raises ConfigError for what others could have put there, and OSError.
    """
    return open(path, mode, opener=_open, **options)


def refuse_foreign(path: str) -> None:
    """Raise ConfigError if ``open_log`` would; makes nothing, and may find nothing."""
    try:
        os.close(_open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK))
    except OSError:  # it is told where the log is opened
        return


def _open(path: str, flags: int) -> int:
    user, group, trusted = _owners
    return owned_files.open_owned(
        path,
        flags,
        f"the log {path}",
        trusted=trusted,
        owner=user,
        mode=0o666,  # and the umask
        anywhere=True,
        give=(user, group) if user != ROOT else None,
    )


class LogFile(logging.FileHandler):
    """A handler that opens its file by ``open_log``."""

    def _open(self) -> Any:
        return open_log(self.baseFilename, self.mode, encoding=self.encoding, errors=self.errors)


def safe(kind: type[Any]) -> type[Any]:
    """Return a handler's class that opens its file by ``open_log``, also when it rotates it."""
    return type(kind.__name__, (kind,), {"_open": LogFile._open})


def may_wait(handler: logging.Handler) -> bool:
    """Return whether a handler writes to a pipe, a terminal or a device by the name of a file.

    Opens it then, if that was to happen with the first record. False for a class that writes in a
    way of its own.
    """
    is_plain = type(handler).emit.__module__ in ("logging", "logging.handlers")
    if not isinstance(handler, logging.FileHandler) or not is_plain:
        return False
    with suppress(OSError):  # a delayed one, of which nothing exists yet
        if handler.stream is not None:
            return not stat.S_ISREG(os.fstat(handler.stream.fileno()).st_mode)
        if not stat.S_ISREG(os.stat(handler.baseFilename).st_mode):
            handler.stream = handler._open()
            return True
    return False


def reopen(handler: logging.FileHandler) -> None:
    """Open a handler's file again, which may have been rotated; a pipe or a device stays as it is.

    Raises ConfigError and OSError; then the handler goes on with the file that it has.
    """
    with handler.lock:  # type: ignore[union-attr]
        old = handler.stream
        if old is None or not stat.S_ISREG(os.fstat(old.fileno()).st_mode):
            return
        handler.stream = handler._open()
        old.close()
