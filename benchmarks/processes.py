"""CPU time and memory of the processes of a session, from /proc."""

import os
from pathlib import Path

from benchmarks.figures import Memory

TICKS = os.sysconf("SC_CLK_TCK")  # per second


def session(leader: int) -> list[int]:
    """Return the processes of a session, without zombies."""
    return [pid for pid, fields in _stats(leader) if fields[0] != "Z"]


def cpu(leader: int) -> float:
    """Return the CPU seconds, user and system, of a session and of its exited children."""
    times = (fields[11:15] for _, fields in _stats(leader))
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


def _stats(leader: int) -> list[tuple[int, list[str]]]:
    """Return the processes of a session, each with its fields of /proc/PID/stat from state on."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[3]) == leader:
                found.append((int(entry.name), fields))
    return found


def _sizes(pid: int) -> dict[str, int]:
    """Return the bytes by kind from smaps_rollup; empty for a process that has just exited."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    lines = (line.split() for line in text.splitlines()[1:])
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines}
