"""`workers: auto`: the least of affinity and quotas, in every form that they have."""

import os
from pathlib import Path

import pytest

from api_hour.config import processors

V1 = "cpu.cfs_quota_us", "cpu.cfs_period_us"


def write(root: Path, groups: str, **quotas: str) -> Path:
    """Write what a kernel shows: /proc/self/cgroup, and the quota of each control group."""
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / "self" / "cgroup").write_text(groups)
    for name, quota in quotas.items():
        folder = root / "sys" / "fs" / "cgroup" / name
        folder.mkdir(parents=True, exist_ok=True)
        if quota.startswith("v1 "):
            for file, number in zip(V1, quota.split()[1:], strict=True):
                (folder / file).write_text(number + "\n")
        else:
            (folder / "cpu.max").write_text(quota + "\n")
    return root


CASES = {
    "no limit": ("0::/\n", {"": "max 100000"}, 8),
    "half a core": ("0::/\n", {"": "50000 100000"}, 1),
    "three and a half": ("0::/a/b\n", {"a/b": "350000 100000"}, 3),
    "a group above": ("0::/a/b\n", {"a/b": "max 100000", "a": "200000 100000"}, 2),
    "more than the affinity": ("0::/\n", {"": "9900000 100000"}, 8),
    "version 1": ("4:cpu,cpuacct:/x\n", {"cpu,cpuacct/x": "v1 300000 100000"}, 3),
    "version 1, mounted as cpu": ("1:cpu:/\n0::/\n", {"cpu": "v1 250000 100000"}, 2),
    "version 1 without a limit": ("1:cpu:/\n", {"cpu": "v1 -1 100000"}, 8),
    "a path that the container cannot see": ("4:cpu:/docker/9\n", {"cpu": "v1 400000 100000"}, 4),
    "a quota of another controller": ("1:cpuset:/\n", {"cpuset": "100000 100000"}, 8),
    "a broken file": ("0::/\n", {"": "many"}, 8),
    "no control groups": ("", {}, 8),
}


@pytest.mark.parametrize("case", CASES)
def test_the_least_limit_counts(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    groups, quotas, expected = CASES[case]
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert processors.available(write(tmp_path, groups, **quotas)) == expected


def test_without_proc_the_affinity_counts(tmp_path: Path) -> None:
    assert processors.available(tmp_path) == len(os.sched_getaffinity(0))


def test_without_affinity_every_processor_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    assert processors.available(tmp_path) == os.cpu_count()
