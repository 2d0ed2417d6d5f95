"""The samples of each process of a daemon, in files of one folder that a scrape adds up.

A process counts in memory. ``save()``, about once a second, writes its samples in the format of
prometheus-client, one file for each kind of metric. So nothing that happens to the folder reaches
whoever counts: it may be removed, full, read-only or another's at any moment. The samples are
complete in the next file that can be written, and no disk can raise SIGBUS, as it does for a
process that maps a file. The price is what a process has counted since its last ``save()`` when it
is killed.

The names of the files end with a number. A process holds the lowest free number as long as it
lives, by a lock, and continues the counts of the process that had it before. So no count goes back
when a process exits, and there are never more files than processes that ran at once. When the
folder was removed, the locks are gone with it: then each process takes a number again.

The master may be root while the folder belongs to the workers' user, who may put anything there. So
no link is followed, no file is waited for, read, written or given away that is not this process's
own, and the master's numbers are of their own (``m0``).

Standard library only: the master counts as well, and loads no prometheus-client.
"""

import errno
import fcntl
import json
import os
import stat
import struct
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import NamedTuple

from api_hour.logs import observers

HEADER = struct.Struct("i4x")  # bytes in use, this header included
LENGTH = struct.Struct("i")  # of a key; the key follows, padded to 8 bytes with its length
PAIR = struct.Struct("dd")  # value, and time in seconds for gauges of the most recent one
MADE_AGAIN = "made_again"  # a file whose time says when the folder was made again
SETTLING = 2.5  # seconds until every process has written its samples to a folder made again
EXTRA = "-extra"  # follows the number in the name of a file that is written as a whole
SHARED = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # nobody writes to a pipe that lies there
MAX_NUMBERS = 4096  # processes that count at once; somebody may hold the locks of all others
MAX_FILE = 64 << 20  # bytes that are read of one file

_lock = threading.RLock()  # of all samples; a signal's handler may count, too
_saving = threading.RLock()  # of the files and the number: who counts never waits for a disk


class Extra(NamedTuple):
    """A sample that is found out rather than counted: memory in use, a version."""

    name: str
    help: str
    labels: Mapping[str, str]
    value: float


class Sample:
    """One number of one process: what the last process with its number had counted, or 0.

    ``kind`` is ``counter``, ``histogram``, ``summary`` or ``gauge_`` and its mode.
    """

    __slots__ = ("_data", "_position")

    def __init__(self, files: "SampleFiles", kind: str, key: str) -> None:
        with _lock:
            samples = files.samples_of(kind)
            self._data, self._position = samples.data, samples.position(key)

    def add(self, amount: float) -> None:
        """Add ``amount`` to the number."""
        with _lock:
            value = PAIR.unpack_from(self._data, self._position)[0]
            PAIR.pack_into(self._data, self._position, value + amount, 0.0)

    def set(self, value: float, timestamp: float | None = None) -> None:
        """Set the number, as of ``timestamp``."""
        with _lock:
            PAIR.pack_into(self._data, self._position, value, timestamp or 0.0)

    def get(self) -> float:
        """Return the number."""
        with _lock:
            return float(PAIR.unpack_from(self._data, self._position)[0])


class _Samples:
    """The samples of one kind, as the bytes of their file."""

    def __init__(self) -> None:
        self.data = bytearray(HEADER.pack(HEADER.size))
        self._positions: dict[str, int] = {}

    def position(self, key: str) -> int:
        """Return where the sample of ``key`` is; it begins at 0."""
        if key not in self._positions:
            encoded = key.encode()
            padding = b" " * (8 - (len(encoded) + LENGTH.size) % 8)
            self.data += LENGTH.pack(len(encoded)) + encoded + padding
            self._positions[key] = len(self.data)
            self.data += PAIR.pack(0.0, 0.0)
            HEADER.pack_into(self.data, 0, len(self.data))
        return self._positions[key]

    def take_over(self, data: bytes, *, add: bool) -> None:
        """Continue the samples of a file: add them, or else keep those that are here."""
        for key, pair in read(data):
            known = key in self._positions
            position = self.position(key)
            if known and add:
                value = PAIR.unpack_from(self.data, position)[0] + pair[0]
                PAIR.pack_into(self.data, position, value, 0.0)
            elif not known:
                PAIR.pack_into(self.data, position, *pair)


class SampleFiles:
    """The samples of this process, and its files in ``folder``, which belongs to ``uid``.

    ``prefix`` begins its number.
    """

    def __init__(self, folder: str, uid: int, gid: int, prefix: str = "") -> None:
        self.folder = folder
        self._owner = uid, gid
        self._prefix = prefix
        self._kinds: dict[str, _Samples] = {}
        self._extra: bytes = b""
        self._number_lock = -1  # a descriptor; -1 without a number
        self.number = ""

    def samples_of(self, kind: str) -> "_Samples":
        """Return the samples of one kind."""
        return self._kinds.setdefault(kind, _Samples())

    def set_extra(self, extra: Iterable[Extra]) -> None:
        """Replace the samples that are found out rather than counted; they end with the process."""
        samples = _Samples()
        for name, help_text, labels, value in extra:
            position = samples.position(make_key(name, name, labels, help_text))
            PAIR.pack_into(samples.data, position, value, 0.0)
        with _lock:
            self._extra = bytes(samples.data)

    def save(self) -> None:
        """Write all samples; make the folder again, or take a number again, where need be.

        Raises OSError if a file is not up to date now. Samples that are new, and for which there is
        no room, are a fault that is told and no reason to raise: the others are right.
        """
        with _saving, self._opened_folder() as folder:
            self._hold_number(folder)
            with _lock:
                kinds = {kind: bytes(samples.data) for kind, samples in self._kinds.items()}
            for kind, data in kinds.items():
                _write(folder, f"{kind}_{self.number}.db", data)
            if self._extra:
                _write(folder, f"gauge_livemax_{self.number}{EXTRA}.db", self._extra)

    def is_in_place(self) -> bool:
        """Return whether the folder still has the lock of this process; raises OSError."""
        folder = open_folder(self.folder, self._owner[0])
        try:
            return _is_same(folder, f"{self.number}.lock", self._number_lock)
        finally:
            os.close(folder)

    def close(self) -> None:
        """Let go of the number, as far as this process holds it."""
        if self._number_lock >= 0:
            os.close(self._number_lock)
        self._number_lock = -1

    @contextmanager
    def _opened_folder(self) -> Iterator[int]:
        try:
            folder = open_folder(self.folder, self._owner[0])
        except FileNotFoundError:
            self._make_again()
            folder = open_folder(self.folder, self._owner[0])
        try:
            yield folder
        finally:
            os.close(folder)

    def _make_again(self) -> None:
        with suppress(FileExistsError):  # another process was quicker
            make(self.folder, *self._owner)
            with self._opened_folder() as folder:
                flags = os.O_CREAT | os.O_WRONLY | SHARED
                os.close(os.open(MADE_AGAIN, flags, 0o644, dir_fd=folder))
            gone = FileNotFoundError(errno.ENOENT, "was gone, and is made again", self.folder)
            observers.failed("metrics", gone)

    def _hold_number(self, folder: int) -> None:
        """Take the lowest free number, unless one is held whose lock is still in the folder."""
        if self._number_lock >= 0:
            if _is_same(folder, f"{self.number}.lock", self._number_lock):
                return
            self.close()
        for count in range(MAX_NUMBERS):
            number = f"{self._prefix}{count}"
            lock = _open_lock(folder, f"{number}.lock")
            if _try_lock(lock) and _is_same(folder, f"{number}.lock", lock):
                break
            os.close(lock)
        else:
            raise OSError(errno.EMFILE, "every number is taken", self.folder)
        self.number, self._number_lock = number, lock
        remove_live(folder, number)
        self._take_over(folder, f"_{number}.db")

    def _take_over(self, folder: int, ending: str) -> None:
        for name in os.listdir(folder):
            if not name.endswith(ending):
                continue
            kind = name.removesuffix(ending)
            try:
                data = _read_file(folder, name)
                with _lock:
                    self.samples_of(kind).take_over(data, add=not kind.startswith("gauge"))
            except (OSError, ValueError) as error:  # what a crash of the machine left behind
                observers.failed("metrics", error)


def make(folder: str, uid: int, gid: int) -> None:
    """Create ``folder`` for a user; raises OSError."""
    os.makedirs(folder, 0o700)
    give(folder, uid, gid)


def give(folder: str, uid: int, gid: int) -> None:
    """Give a folder of this process's user to another one; raises OSError."""
    if (uid, gid) != (os.geteuid(), os.getegid()):
        descriptor = open_folder(folder, os.geteuid())
        try:
            os.fchown(descriptor, uid, gid)
        finally:
            os.close(descriptor)


def open_folder(folder: str, uid: int) -> int:
    """Return a descriptor of ``folder``; raises OSError unless it belongs to ``uid`` alone."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | SHARED)
    status = os.fstat(descriptor)
    if status.st_uid != uid or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        os.close(descriptor)
        raise PermissionError(errno.EPERM, f"may be written by others than user {uid}", folder)
    return descriptor


def made_again_at(folder: int) -> float:
    """Return when the folder was made again, in seconds since the epoch; 0 if it never was."""
    with suppress(FileNotFoundError):
        return os.stat(MADE_AGAIN, dir_fd=folder, follow_symlinks=False).st_mtime
    return 0.0


def is_settling(folder: int) -> bool:
    """Return whether some processes may not have written to a folder that was made again."""
    return 0.0 <= time.time() - made_again_at(folder) < SETTLING


def forget_dead(folder: int) -> None:
    """Remove the samples of dead processes that count living ones only."""
    for name in os.listdir(folder):
        if not name.endswith(".lock"):
            continue
        lock = os.open(name, os.O_RDONLY | SHARED, dir_fd=folder)
        try:
            if _try_lock(lock):
                remove_live(folder, name.removesuffix(".lock"))
        finally:
            os.close(lock)


def is_abandoned(folder: int) -> bool:
    """Return whether every process that has counted in a folder is gone; raises OSError."""
    names = [name for name in os.listdir(folder) if name.endswith(".lock")]
    for name in names:
        lock = os.open(name, os.O_RDONLY | SHARED, dir_fd=folder)
        try:
            if not _try_lock(lock):
                return False
        finally:
            os.close(lock)
    return bool(names)


def remove_live(folder: int, number: str) -> None:
    """Remove the samples of process ``number`` that hold only while it lives."""
    endings = f"_{number}.db", f"_{number}{EXTRA}.db"
    for name in os.listdir(folder):
        if name.startswith("gauge_live") and name.endswith(endings):
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=folder)


def make_key(metric: str, name: str, labels: Mapping[str, str], help_text: str) -> str:
    """Return the key of a sample, as prometheus-client writes it."""
    return json.dumps([metric, name, dict(labels), help_text], sort_keys=True)


def read(data: bytes) -> Iterator[tuple[str, tuple[float, float]]]:
    """Yield key, and value with time, of each sample in a file; raises ValueError."""
    try:
        used, at = HEADER.unpack_from(data)[0], HEADER.size
        while at < used:
            length = LENGTH.unpack_from(data, at)[0]
            key = data[at + LENGTH.size : at + LENGTH.size + length].decode()
            json.loads(key)
            at += LENGTH.size + length + 8 - (length + LENGTH.size) % 8
            value, timestamp = PAIR.unpack_from(data, at)
            yield key, (value, timestamp)
            at += PAIR.size
    except struct.error as error:
        raise ValueError(f"a file of samples is broken: {error}") from error


def _write(folder: int, name: str, data: bytes) -> None:
    """Write a file in place, which needs no room on a full disk unless it grows.

    The header comes last: until then a reader sees the old samples, all of them complete.
    """
    file = os.open(name, os.O_RDWR | os.O_CREAT | SHARED, 0o644, dir_fd=folder)
    try:
        status = os.fstat(file)
        if not _is_own(status):
            raise PermissionError(errno.EPERM, "is not this process's own", name)
        if status.st_mode & 0o444 != 0o444:  # because of the umask; the folder is closed to others
            os.fchmod(file, 0o644)
        size = HEADER.size + os.pwrite(file, memoryview(data)[HEADER.size :], HEADER.size)
        if size == len(data):
            os.pwrite(file, memoryview(data)[: HEADER.size], 0)
        elif status.st_size < HEADER.size or size < HEADER.unpack(os.pread(file, 8, 0))[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
        else:
            full = OSError(errno.ENOSPC, "no room for new samples", name)
            observers.failed("metrics", full)
    finally:
        os.close(file)


def _read_file(folder: int, name: str) -> bytes:
    with open(os.open(name, os.O_RDONLY | SHARED, dir_fd=folder), "rb") as file:
        status = os.fstat(file.fileno())
        if not _is_own(status) or status.st_size > MAX_FILE:
            raise PermissionError(errno.EPERM, "is not this process's own, or too large", name)
        return file.read(MAX_FILE)


def _is_own(status: os.stat_result) -> bool:
    """Return whether a file is this user's, and no second name of one that lies elsewhere."""
    own = status.st_uid == os.geteuid() and status.st_nlink == 1
    return own and stat.S_ISREG(status.st_mode)


def _open_lock(folder: int, name: str) -> int:
    """Open a lock for reading, which is enough for flock; create it if there is none."""
    lock = os.open(name, os.O_RDONLY | os.O_CREAT | SHARED, 0o644, dir_fd=folder)
    if _is_own(os.fstat(lock)):
        os.fchmod(lock, 0o644)
    return lock


def _is_same(folder: int, name: str, descriptor: int) -> bool:
    """Return whether ``name`` is the file of ``descriptor``."""
    with suppress(FileNotFoundError):
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        return os.path.samestat(found, os.fstat(descriptor))
    return False


def _try_lock(lock: int) -> bool:
    with suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _forget_locks() -> None:
    global _lock, _saving
    _lock, _saving = threading.RLock(), threading.RLock()


os.register_at_fork(after_in_child=_forget_locks)
