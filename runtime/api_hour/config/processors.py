"""How many processors this process may use: what ``workers: auto`` means.

A container sees every processor of its machine. What it may use is the least of its affinity and
of the quotas of its control group and of those above it, of version 2 or 1.
"""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

CPU = "cpu"  # the controller of version 1


def available(root: Path = Path("/")) -> int:
    """Return the number of processors, rounded down, and at least 1.

    ``root`` is where ``proc`` and ``sys`` are mounted.
    """
    quotas = [quota for folder in _groups(root) if (quota := _quota(folder)) is not None]
    affinity = getattr(os, "sched_getaffinity", None)  # macOS has none
    own = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, int(min([own, *quotas])))


def _groups(root: Path) -> Iterator[Path]:
    """Yield the folders of this process's control group and of those above it."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    mount = root / "sys/fs/cgroup"
    for line in lines:
        _, controllers, path = line.split(":", 2)
        group = PurePosixPath("/", path).relative_to("/")
        if controllers and CPU not in controllers.split(","):
            continue
        # Version 2 is mounted by itself, or beside version 1 as `unified`; version 1 by controller.
        for name in [controllers, CPU] if controllers else ["", "unified"]:
            # A container may see its own group as the root of the mount.
            yield from (mount / name / above for above in (group, *group.parents))


def _quota(folder: Path) -> float | None:
    """Return the processors that a control group may use; None without a limit."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        return None if quota in ("max", "-1") else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
