"""systemd's protocols: the sockets it hands over, and what a service tells it."""

import math
import os
import socket
import time
from contextlib import suppress

FIRST_FD = 3  # SD_LISTEN_FDS_START of sd_listen_fds(3)


def activated() -> list[tuple[str, int]]:
    """Return name and descriptor of every socket that systemd opened; clears the environment.

    The protocol is that of sd_listen_fds(3). Clearing the variables keeps children of this process
    from taking the same descriptors.
    """
    pid, count, names = [os.environ.pop(f"LISTEN_{key}", "") for key in ("PID", "FDS", "FDNAMES")]
    if pid != str(os.getpid()) or not count.isdigit():
        return []
    named = names.split(":") if names else []
    named += ["unknown"] * (int(count) - len(named))
    return [(name, FIRST_FD + number) for number, name in enumerate(named[: int(count)])]


def notify(**state: object) -> None:
    """Send lines of sd_notify(3), READY=1 for instance; does nothing outside of systemd."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # a name in Linux' abstract namespace
        address = "\0" + address[1:]
    lines = "\n".join(f"{key}={value}" for key, value in state.items())
    # A full queue, a socket that is gone, or no descriptor left: none may block or end the master.
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.sendto(lines.encode(errors="replace"), address)


def reloading() -> None:
    """Tell systemd that a reload has begun; ``notify(READY=1)`` ends it."""
    notify(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)


class Reporter:
    """Keeps systemd's status line up to date, and feeds its watchdog."""

    def __init__(self) -> None:
        timeout = os.environ.get("WATCHDOG_USEC", "")
        for_us = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        # Twice as often as required, as sd_watchdog_enabled(3) recommends.
        self._period = int(timeout) / 1e6 / 2 if for_us and timeout.isdigit() else math.inf
        self.next = -math.inf if math.isfinite(self._period) else math.inf  # by time.monotonic()
        self._status = ""

    def report(self, status: str, *, healthy: bool) -> None:
        """Send ``status`` if it changed, and feed the watchdog when it is time.

        An unhealthy service does not feed it, so that systemd restarts the service.
        """
        if status != self._status:
            self._status = status
            notify(STATUS=status)
        if time.monotonic() >= self.next:
            self.next = time.monotonic() + self._period
            if healthy:
                notify(WATCHDOG=1)
