"""What runs out: descriptors, the log's disk, the log's reader, a fair share of connections."""

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

from runtime.tests.chaos.stage import Stage
from testkit.load import Kind, Profile
from testkit.processes import Daemon
from testkit.waiting import until

SPARE = 4  # descriptors left to a worker
NONE = 3  # descriptors: below it all are in use
CROWD = 60  # connections that come while there is no descriptor
PIPE = 60_000  # bytes; Linux lets a pipe hold 65,536
ONE = (Kind("quick"),)
SPREAD = Profile(keepalive=400, fresh=0, rate=400, kinds=ONE, requests=1)
BURST = Profile(keepalive=400, fresh=0, rate=1_000_000, kinds=ONE, requests=1)


def run_out_of_descriptors(stage: Stage) -> None:
    """Leave the workers no descriptors, then give them back."""
    workers = stage.daemon.workers()
    before = {pid: resource.prlimit(pid, resource.RLIMIT_NOFILE) for pid in workers}
    with ExitStack() as stack:
        for pid in workers:
            low = len(list(Path(f"/proc/{pid}/fd").iterdir())) + SPARE
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (low, before[pid][1]))
        for _ in range(CROWD):
            stack.enter_context(stage.peer())
        start, used = time.monotonic(), _cpu(workers)
        stage.calm()
        seconds = time.monotonic() - start
        busy = max((_cpu(workers)[pid] - used[pid]) / seconds for pid in workers)
        stage.note(f"busiest worker {busy:.0%} of a CPU")
        assert busy < 0.9, f"a worker without descriptors spins: {busy:.0%} of a CPU"
        for pid in workers:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before[pid])
    for pid in workers:
        with stage.peer_of(pid) as peer:
            assert peer.ask(id="after").status == 200
    stage.calm()


def starve_master(stage: Stage) -> None:
    """Leave the master no descriptors, so that it cannot replace a worker; then give them back."""
    master, (victim, *others) = stage.daemon.process.pid, stage.daemon.workers()
    mark, before = stage.daemon.mark(), resource.prlimit(master, resource.RLIMIT_NOFILE)
    resource.prlimit(master, resource.RLIMIT_NOFILE, (NONE, before[1]))
    used = _cpu([master])
    os.kill(victim, signal.SIGKILL)
    stage.daemon.wait_for("Too many open files", after=mark)
    start = time.monotonic()
    stage.calm()
    busy = (_cpu([master])[master] - used[master]) / (time.monotonic() - start)
    assert busy < 0.9, f"a master without descriptors spins: {busy:.0%} of a CPU"
    assert set(others) <= set(stage.daemon.workers()), "the good worker went too"
    resource.prlimit(master, resource.RLIMIT_NOFILE, before)
    stage.daemon.ready(after=mark)
    stage.calm()


def _cpu(workers: list[int]) -> dict[int, float]:
    """Return the seconds of CPU that each process has used."""
    tick = os.sysconf("SC_CLK_TCK")
    used = {}
    for pid in workers:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        used[pid] = (int(fields[11]) + int(fields[12])) / tick
    return used


def fill_disk(stage: Stage) -> None:
    """Log onto a full disk: requests go on, and the daemon ends in order."""
    stage.launch()
    with stage.peer() as peer:
        assert peer.ask(id="first").status == 200
    stage.run(Profile())
    stage.calm()


def block_log(stage: Stage) -> None:
    """Stop reading the log's pipe until it is full: requests go on."""
    daemon = stage.daemon
    daemon.reading.clear()
    try:
        until(lambda: _waiting(daemon) > PIPE, "the log's pipe did not fill")
        stage.calm()
        stage.calm()
    finally:
        daemon.reading.set()


def lose_log_reader(stage: Stage) -> None:
    """Close the reading end of the log's pipe: requests go on, and the daemon ends in order."""
    assert stage.daemon.process.stdout is not None
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), stage.daemon.process.stdout.fileno())
    stage.calm()
    stage.calm()


def _waiting(daemon: Daemon) -> int:
    """Return the bytes that nobody has read yet."""
    assert daemon.process.stdout is not None
    answer = fcntl.ioctl(daemon.process.stdout, termios.FIONREAD, b"\0" * 4)
    return int(struct.unpack("i", answer)[0])


def share_out(stage: Stage) -> None:
    """Open 400 connections over a second, then 400 at once, and count who accepted them."""
    # At best: a machine that does other work may let a worker sleep meanwhile.
    spread, burst = (max(_least(stage, one) for _ in range(3)) for one in (SPREAD, BURST))
    stage.note(f"least share of 400: over a second {spread:.0%}, in a burst {burst:.0%}")
    assert min(spread, burst) >= 0.05


def _least(stage: Stage, profile: Profile) -> float:
    """Return the share of the connections that the least used worker had."""
    load = stage.run(profile)
    load.wait()
    counts = Counter(one.worker for one in load.records)
    return min(counts[pid] for pid in stage.daemon.workers()) / sum(counts.values())
