"""The master's only wait: for signals, and for what its workers and operators send."""

import selectors
import signal
import socket
from collections.abc import Callable
from typing import Protocol

TakeIn = Callable[[], None]  # reads what has arrived


class Source(Protocol):
    """What has a descriptor that becomes readable."""

    def fileno(self) -> int:
        """Return the descriptor."""


class Poller:
    """Wakes the master for a signal, and for every source that it watches.

    Signals come through a socket pair that Python's own signal handler writes to
    (``signal.set_wakeup_fd``), so that one ``select`` waits for both and no signal can slip in
    between a check and the wait.
    """

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._wakeup_read, self._wakeup_write = socket.socketpair()
        for end in (self._wakeup_read, self._wakeup_write):
            end.setblocking(False)
        self._selector.register(self._wakeup_read, selectors.EVENT_READ)

    def watch_signals(self) -> None:
        """Let every handled signal end the wait."""
        signal.set_wakeup_fd(self._wakeup_write.fileno(), warn_on_full_buffer=False)

    def watch(self, source: Source, take_in: TakeIn) -> None:
        """Return ``take_in`` from ``wait`` whenever ``source`` can be read."""
        self._selector.register(source, selectors.EVENT_READ, take_in)

    def forget(self, source: Source) -> None:
        """Stop watching a source; does nothing if it is not watched."""
        if source in self._selector.get_map():
            self._selector.unregister(source)

    def wait(self, seconds: float) -> list[TakeIn]:
        """Return what reads the sources that can be read, after at most ``seconds``."""
        keys = [key for key, _ in self._selector.select(max(0.0, seconds))]
        if any(key.data is None for key in keys):
            self._wakeup_read.recv(4096)  # only its arrival counts: Gunicorn queues the signals
        return [key.data for key in keys if key.data is not None]

    def close(self) -> None:
        """Close everything, in a child that has inherited it."""
        for end in (self._selector, self._wakeup_read, self._wakeup_write):
            end.close()
