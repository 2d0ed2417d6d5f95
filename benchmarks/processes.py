"""CPU time and memory of the processes of a session, from /proc."""

import os
from pathlib import Path

from benchmarks.figures import Memory
from testkit.processes import session, session_stats

TICKS = os.sysconf("SC_CLK_TCK")  # per second


def cpu(leader: int) -> float:
    """Return the CPU seconds, user and system, of a session and of its exited children."""
    times = (fields[11:15] for _, fields in session_stats(leader))
    return sum(int(ticks) for four in times for ticks in four) / TICKS


def memory(leader: int) -> Memory:
    """Return the memory of a session; its largest process counts as the worker."""
    sizes = [(sizes.get("Rss", 0), sizes.get("Pss", 0)) for sizes in map(_sizes, session(leader))]
    rss, pss = max(sizes, default=(0, 0))
    return Memory(
        rss=sum(rss for rss, _ in sizes),
        pss=sum(pss for _, pss in sizes),
        worker_rss=rss,
        worker_pss=pss,
    )


def _sizes(pid: int) -> dict[str, int]:
    """Return the bytes by kind from smaps_rollup; empty for a process that has just exited."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    lines = (line.split() for line in text.splitlines()[1:])
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines}
