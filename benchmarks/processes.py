"""What the processes of one session use: CPU time and memory, from /proc."""

import os
from pathlib import Path

from benchmarks.figures import Memory
from testkit.processes import session, session_stats

TICKS = os.sysconf("SC_CLK_TCK")  # a second


def cpu(leader: int) -> float:
    """Return the CPU seconds, user's and system's, of a session and of its ended children."""
    times = (fields[11:15] for _, fields in session_stats(leader))
    return sum(int(ticks) for four in times for ticks in four) / TICKS


def memory(leader: int) -> Memory:
    """Return what a session holds; its worker is the largest of them."""
    sizes = [(own.get("Rss", 0), own.get("Pss", 0)) for own in map(_sizes, session(leader))]
    rss, pss = max(sizes, default=(0, 0))
    return Memory(
        rss=sum(rss for rss, _ in sizes),
        pss=sum(pss for _, pss in sizes),
        worker_rss=rss,
        worker_pss=pss,
    )


def _sizes(pid: int) -> dict[str, int]:
    """Return the bytes in a process's smaps; nothing for one that has just ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    lines = (line.split() for line in text.splitlines()[1:])
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines}
