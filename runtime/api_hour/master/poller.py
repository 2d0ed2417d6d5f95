"""One wait for everything that concerns the master: signals and the words of its workers."""

import selectors
import signal
import socket
from typing import Any


class Mailbox:
    """Wake the master for a signal or for a worker's channel."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._bell, self._hammer = socket.socketpair()
        for end in (self._bell, self._hammer):
            end.setblocking(False)
        self._selector.register(self._bell, selectors.EVENT_READ)

    def hear_signals(self) -> None:
        """Let every handled signal end the wait."""
        signal.set_wakeup_fd(self._hammer.fileno(), warn_on_full_buffer=False)

    def add(self, worker: Any) -> None:
        """Listen to a worker's channel."""
        self._selector.register(worker.channel, selectors.EVENT_READ, worker)

    def remove(self, worker: Any) -> None:
        """Stop listening to a worker; one that is not listened to stays so."""
        if worker.channel in self._selector.get_map():
            self._selector.unregister(worker.channel)

    def wait(self, seconds: float) -> list[Any]:
        """Return the workers that have said something, after at most ``seconds``."""
        keys = [key for key, _ in self._selector.select(max(0.0, seconds))]
        if any(key.data is None for key in keys):
            self._bell.recv(4096)
        return [key.data for key in keys if key.data is not None]

    def close(self) -> None:
        """Close everything, in a child that has inherited it."""
        for end in (self._selector, self._bell, self._hammer):
            end.close()
