"""What systemd tells a service at its start, and what the service tells systemd."""

import math
import os
import socket
import time

FIRST = 3  # SD_LISTEN_FDS_START of sd_listen_fds(3)


def activated() -> list[tuple[str, int]]:
    """Return name and descriptor of every socket that systemd opened; clears the environment."""
    given = [os.environ.pop(f"LISTEN_{key}", "") for key in ("PID", "FDS", "FDNAMES")]
    pid, count, names = given
    if pid != str(os.getpid()) or not count.isdigit():
        return []
    named = names.split(":") if names else []
    named += ["unknown"] * (int(count) - len(named))
    return [(name, FIRST + place) for place, name in enumerate(named[: int(count)])]


def notify(**state: object) -> None:
    """Send lines of sd_notify(3), for instance READY=1; a no-op outside of systemd."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    lines = "\n".join(f"{key}={value}" for key, value in state.items())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)  # a full queue must not stop the master
        try:
            sock.sendto(lines.encode(), address)
        except OSError:
            return


def reloading() -> None:
    """Tell that a reload has begun; ``notify(READY=1)`` ends it."""
    notify(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)


class Reporter:
    """Keep systemd's view of the service up to date."""

    def __init__(self) -> None:
        microseconds = os.environ.get("WATCHDOG_USEC", "")
        mine = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._every = int(microseconds) / 2e6 if mine and microseconds.isdigit() else math.inf
        self.next = -math.inf if math.isfinite(self._every) else math.inf  # by time.monotonic()
        self._status = ""

    def report(self, status: str, *, well: bool) -> None:
        """Send ``status`` when it is new, and feed the watchdog when its time has come."""
        if status != self._status:
            self._status = status
            notify(STATUS=status)
        if time.monotonic() >= self.next:
            self.next = time.monotonic() + self._every
            if well:
                notify(WATCHDOG=1)
