"""Scarce resources: descriptors, the log's disk and reader, a fair share of the connections."""

import fcntl
import os
import resource
import signal
import struct
import termios
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from runtime.tests.chaos.harness import Harness
from testkit.load import Kind, Profile
from testkit.processes import Daemon
from testkit.waiting import until

SPARE = 4  # descriptors that a worker may still open
NO_DESCRIPTORS = 3  # a limit below the descriptors in use
CROWD = 60  # connections that arrive while no descriptor is left
PIPE = 60_000  # bytes; a pipe of Linux holds 65,536
QUICK = (Kind("quick"),)
SPREAD = Profile(keepalive=400, fresh=0, rate=400, kinds=QUICK, requests=1)
BURST = Profile(keepalive=400, fresh=0, rate=1_000_000, kinds=QUICK, requests=1)


def run_out_of_descriptors(harness: Harness) -> None:
    """Take the descriptors from the workers, then give them back."""
    workers = harness.daemon.workers()
    before = {pid: resource.prlimit(pid, resource.RLIMIT_NOFILE) for pid in workers}
    with ExitStack() as stack:
        for pid in workers:
            low = len(list(Path(f"/proc/{pid}/fd").iterdir())) + SPARE
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (low, before[pid][1]))
        for _ in range(CROWD):
            stack.enter_context(harness.connect())
        start, used = time.monotonic(), cpu_seconds(workers)
        harness.calm()
        seconds = time.monotonic() - start
        busy = max((cpu_seconds(workers)[pid] - used[pid]) / seconds for pid in workers)
        harness.note(f"busiest worker {busy:.0%} of a CPU")
        assert busy < 0.9, f"a worker without descriptors spins: {busy:.0%} of a CPU"
        for pid in workers:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before[pid])
    for pid in workers:
        with harness.connect_to(pid) as peer:
            assert peer.ask(id="after").status == 200
    harness.calm()


def starve_master(harness: Harness) -> None:
    """Take the descriptors from the master, so that it cannot replace a worker; give them back."""
    master, (victim, *others) = harness.daemon.pid, harness.daemon.workers()
    mark, before = harness.daemon.mark(), resource.prlimit(master, resource.RLIMIT_NOFILE)
    resource.prlimit(master, resource.RLIMIT_NOFILE, (NO_DESCRIPTORS, before[1]))
    used = cpu_seconds([master])
    os.kill(victim, signal.SIGKILL)
    harness.daemon.wait_for("Too many open files", after=mark)
    start = time.monotonic()
    harness.calm()
    busy = (cpu_seconds([master])[master] - used[master]) / (time.monotonic() - start)
    assert busy < 0.9, f"a master without descriptors spins: {busy:.0%} of a CPU"
    assert set(others) <= set(harness.daemon.workers()), "the good worker exited, too"
    resource.prlimit(master, resource.RLIMIT_NOFILE, before)
    harness.daemon.ready(after=mark)
    harness.calm()


def cpu_seconds(workers: list[int]) -> dict[int, float]:
    """Return the CPU seconds of each process."""
    tick = os.sysconf("SC_CLK_TCK")
    used = {}
    for pid in workers:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        used[pid] = (int(fields[11]) + int(fields[12])) / tick
    return used


def fill_disk(harness: Harness) -> None:
    """Log to a full disk: requests are answered, and the daemon stops normally."""
    harness.start_daemon()
    with harness.connect() as peer:
        assert peer.ask(id="first").status == 200
    harness.start_load(Profile())
    harness.calm()


def block_log(harness: Harness) -> None:
    """Stop reading the log's pipe until it is full: requests are answered."""
    daemon = harness.daemon
    daemon.reading.clear()
    try:
        until(lambda: _unread_bytes(daemon) > PIPE, "the log's pipe did not fill")
        harness.calm()
        harness.calm()
    finally:
        daemon.reading.set()


def lose_log_reader(harness: Harness) -> None:
    """Close the reading end of the log's pipe: requests are answered, the daemon stops normally."""
    assert harness.daemon.process.stdout is not None
    with open(os.devnull) as null:
        os.dup2(null.fileno(), harness.daemon.process.stdout.fileno())
    harness.calm()
    harness.calm()


def _unread_bytes(daemon: Daemon) -> int:
    """Return the number of bytes in the log's pipe."""
    assert daemon.process.stdout is not None
    answer = fcntl.ioctl(daemon.process.stdout, termios.FIONREAD, b"\0" * 4)
    return int(struct.unpack("i", answer)[0])


def share_out(harness: Harness) -> None:
    """Open 400 connections over a second, then 400 at once; count how many each worker accepted."""
    # The best of three: a busy machine may not schedule a worker in time.
    spread, burst = (
        max(_least_share(harness, profile) for _ in range(3)) for profile in (SPREAD, BURST)
    )
    harness.note(f"least share of 400: over a second {spread:.0%}, in a burst {burst:.0%}")
    assert min(spread, burst) >= 0.05


def _least_share(harness: Harness, profile: Profile) -> float:
    """Return the share of the connections that the least used worker accepted."""
    load = harness.start_load(profile)
    load.wait()
    counts = Counter(record.worker for record in load.records)
    return min(counts[pid] for pid in harness.daemon.workers()) / sum(counts.values())
