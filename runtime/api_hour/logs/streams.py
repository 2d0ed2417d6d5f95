"""Streams that never make their writer wait: stderr, stdout, a pipe to whatever collects logs.

A pipe or a terminal that nobody reads blocks its writer, and with it the event loop or the master.
So each open file has one ``Stream``. It writes at once what the file takes, and keeps the rest in
order, up to ``LIMIT``. The rest follows as soon as the file takes it:

* with the next ``write``;
* from a thread, after ``drain_in_background()``. Workers ask for that, because it also works while
  the loop is blocked. The master does not: a process that forks should have no threads;
* with ``drain()``, which the master calls whenever it wakes up;
* at the exit of the process, which waits ``EXIT_WAIT`` seconds for the reader.

Several processes share the file, and their lines must not mix. The kernel takes one write whole:
of any size by a file, of up to PIPE_BUF bytes by a pipe. So data is written whole where it can be,
and in pieces that end with a line where it cannot.

Standard library only, and no logging: faults of logging are written with this, too.
"""

import atexit
import os
import select
import socket
import stat
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Protocol

PIPE_BUF = 4096  # bytes that a pipe takes whole or not at all
LIMIT = 1 << 20  # bytes that wait for a reader: some 8,000 lines of the access log
EXIT_WAIT = 1.0  # seconds that a reader has at the exit of the process

Send = Callable[[bytes], int]  # returns how many bytes were taken; raises OSError

_streams: dict[tuple[int, int], "Stream"] = {}  # by device and inode
_in_background = False


class File(Protocol):
    """What has a descriptor, such as ``sys.stderr``."""

    def fileno(self) -> int:
        """Return the descriptor; raises OSError or ValueError if there is none."""


def of(file: File | None) -> "Stream":
    """Return the stream of an open file, always the same one; raises OSError without a file.

    Two descriptors of one file, as after ``2>&1``, share it, so that lines stay in order. It has a
    descriptor of its own: after ``file`` is closed, its number may belong to a connection.
    """
    try:
        descriptor = -1 if file is None else file.fileno()
    except ValueError as error:  # closed
        raise OSError(str(error)) from error
    status = os.fstat(descriptor)
    key = status.st_dev, status.st_ino
    if key not in _streams:
        _streams[key] = Stream(descriptor, status.st_mode)
    return _streams[key]


def drain_in_background() -> None:
    """Let threads of this process write what waits; not for a process that forks."""
    global _in_background
    _in_background = True


def drain(timeout: float = 0.0) -> None:
    """Write what waits in every stream, for at most ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    for stream in list(_streams.values()):
        stream.drain(deadline)


class Stream:
    """What one open file takes now, and what it will take later.

    ``whole`` is how many bytes it takes in one write. ``error`` is why it takes nothing (a full
    disk, a reader that is gone), or None while it does, or is only slow.
    """

    def __init__(self, descriptor: int, mode: int) -> None:
        self._own, self._send = _open_own(descriptor, mode)
        self.whole = PIPE_BUF if stat.S_ISFIFO(mode) else LIMIT
        self._waiting: deque[bytes] = deque()  # pieces of at most ``whole`` bytes
        self._size = 0  # bytes of all of them
        self._drainer: threading.Thread | None = None
        # A signal's handler may write in the middle of a write.
        self._lock = threading.RLock()
        self.error: OSError | None = None

    def write(self, data: bytes) -> None:
        """Write ``data``, now or later; raises OSError if it is lost, because too much waits."""
        with self._lock:
            if not self._waiting and len(data) <= self.whole:
                try:
                    data = data[self._send(data) :]
                except OSError as error:
                    self._note(error)
                if not data:
                    return
            self._send_later(data)

    def _send_later(self, data: bytes) -> None:
        self._send_waiting()
        if self._waiting and self._size + len(data) > LIMIT:
            raise self.error or BlockingIOError(f"{self._size} bytes wait for a reader")
        self._size += len(data)
        while len(data) > self.whole:
            end = data.rfind(b"\n", 0, self.whole) + 1 or self.whole
            self._waiting.append(data[:end])
            data = data[end:]
        self._waiting.append(data)
        self._send_waiting()

    def drain(self, deadline: float = 0.0) -> None:
        """Write what waits until ``deadline``, in the monotonic clock, or until nothing does."""
        while self._waiting:
            with self._lock:
                self._send_waiting()
            left = deadline - time.monotonic()
            if self.error or left <= 0:
                break
            if self._waiting:
                self._wait_until_writable(left)

    def forget(self) -> None:
        """Drop what waits, in a child: its parent writes it."""
        self._lock = threading.RLock()
        self._waiting.clear()
        self._size = 0
        self._drainer = None
        self.error = None

    def _send_waiting(self) -> None:
        """Write pieces until none is left or the file takes no more."""
        while self._waiting:
            piece = self._waiting.popleft()
            try:
                taken = self._send(piece)
            except OSError as error:
                self._waiting.appendleft(piece)
                self._note(error)
                return
            self.error = None
            self._size -= taken
            if taken < len(piece):
                self._waiting.appendleft(piece[taken:])

    def _note(self, error: OSError) -> None:
        """Remember why nothing was taken; a reader that is only slow is waited for."""
        self.error = None if isinstance(error, BlockingIOError) else error
        if self.error is None:
            self._start_drainer()

    def _start_drainer(self) -> None:
        if not _in_background or self._drainer is not None:
            return
        self._drainer = threading.Thread(target=self._drain_when_writable, daemon=True)
        try:
            self._drainer.start()
        except RuntimeError:  # no thread can be had: the next write drains
            self._drainer = None

    def _drain_when_writable(self) -> None:
        while True:
            self._wait_until_writable(None)
            with self._lock:
                self._send_waiting()
                if self.error or not self._waiting:
                    self._drainer = None
                    return

    def _wait_until_writable(self, timeout: float | None) -> None:
        poll = select.poll()
        poll.register(self._own, select.POLLOUT)
        poll.poll(None if timeout is None else timeout * 1000)


def _open_own(descriptor: int, mode: int) -> tuple[int, Send]:
    """Return a descriptor for the same file, and a function that writes to it or raises OSError.

    O_NONBLOCK belongs to the open file description, which other processes share: a terminal's
    shell, say. So a pipe or a terminal is opened once more. Where another user's may not be, it is
    asked before each write.
    """
    if stat.S_ISSOCK(mode):  # systemd's journal
        sock = socket.socket(fileno=os.dup(descriptor))
        return sock.fileno(), lambda data: sock.send(data, socket.MSG_DONTWAIT)
    if not (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)):
        own = os.dup(descriptor)
        return own, partial(os.write, own)
    flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        own = os.open(f"/proc/self/fd/{descriptor}", flags)
    except OSError:
        own = os.dup(descriptor)
        return own, lambda data: _write_if_ready(own, data)
    return own, partial(os.write, own)


def _write_if_ready(descriptor: int, data: bytes) -> int:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    if not poll.poll(0):
        raise BlockingIOError("nobody reads")
    return os.write(descriptor, data[:PIPE_BUF])  # more would wait for the reader


def _forget_all() -> None:
    """Start anew in a child, whose parent writes what waits and has the threads."""
    global _in_background
    _in_background = False
    for stream in _streams.values():
        stream.forget()


os.register_at_fork(after_in_child=_forget_all)
atexit.register(drain, EXIT_WAIT)
