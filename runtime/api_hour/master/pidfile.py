"""The pid file: a lock on it says whether its daemon runs, whatever number it holds.

The master keeps the file open and locked (flock) as long as it lives; the kernel ends the lock with
the process. So a file without a lock is stale, even if its number belongs to a living process by
now, and a locked one belongs to somebody. Nobody ever signals the number in a file to find out.
"""

import fcntl
import os
import time
from collections.abc import Collection
from contextlib import suppress

from api_hour import owned_files
from api_hour.exceptions import ConfigError
from api_hour.owned_files import ROOT

ATTEMPTS = 10  # to lock the file: `api_hour reload` may be looking at it
PAUSE = 0.02  # seconds between two attempts


class PidFile:
    """The file of one master, from ``PidFile(...)`` to ``remove()``."""

    def __init__(self, path: str, pid: int, trusted: Collection[int] = (ROOT,)) -> None:
        """Lock the file, new or stale, and write ``pid``; raises ConfigError."""
        self.path = os.path.abspath(path)
        try:
            self._fd = _open_locked(self.path, trusted)
            try:
                os.ftruncate(self._fd, 0)
                os.write(self._fd, f"{pid}\n".encode())
            except OSError:
                os.close(self._fd)
                raise
        except OSError as error:
            raise ConfigError(
                f"the pid file {path} cannot be written: {error.strerror}: give --pid a file in a "
                "folder that exists and that this user may write to"
            ) from None

    def close(self) -> None:
        """Close this process's copy, in a child that has inherited it; the lock stays."""
        os.close(self._fd)

    def remove(self) -> None:
        """Remove the file unless another one stands at its path, and end the lock."""
        with suppress(OSError):
            if _is_at(self.path, self._fd):
                os.unlink(self.path)
        os.close(self._fd)


def holder(path: str) -> int | None:
    """Return whose file it is if a living master holds it, else None; raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.fstat(descriptor).st_uid
    finally:
        os.close(descriptor)
    return None


def _open_locked(path: str, trusted: Collection[int]) -> int:
    """Return the descriptor of the locked file at ``path``.

    A file that its owner removes between our open and our lock is not the one at the path any
    more, so the next attempt creates a new one.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    number = "unknown"
    for _ in range(ATTEMPTS):
        descriptor = owned_files.open_owned(path, flags, f"the pid file {path}", trusted=trusted)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(path, descriptor):
                return descriptor
        except BlockingIOError:
            number = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
            time.sleep(PAUSE)
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)
    raise ConfigError(
        f"the daemon runs already: its master (pid: {number}) holds {path}; "
        "stop it first, or give another --pid"
    )


def _is_at(path: str, descriptor: int) -> bool:
    try:
        there, ours = os.stat(path, follow_symlinks=False), os.fstat(descriptor)
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)
