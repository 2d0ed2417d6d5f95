"""`workers: auto` in a real control group."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from testkit.processes import API_HOUR, Daemon

V1 = Path("/sys/fs/cgroup/cpu")


@pytest.fixture
def half_a_core() -> Iterator[Path]:
    """Return a new control group of half a core."""
    group = (V1 if V1.is_dir() else Path("/sys/fs/cgroup")) / f"api-hour-test-{os.getpid()}"
    try:
        group.mkdir()
        if V1.is_dir():
            (group / "cpu.cfs_quota_us").write_text("50000")
        else:
            (group / "cpu.max").write_text("50000 100000")
    except OSError as error:
        pytest.skip(f"control groups cannot be made here: {error}")
    yield group
    group.rmdir()


def test_a_real_quota_is_obeyed(project: Path, half_a_core: Path) -> None:
    """``workers`` is what the group allows, not the two or more processors of the machine."""
    options = ["--workers", "auto", "--print-config"]
    enter = f'echo $$ > {half_a_core}/cgroup.procs && exec "$@"'
    with Daemon(
        project, "hello:Container", *options, command=("sh", "-c", enter, "sh", *API_HOUR)
    ) as daemon:
        assert daemon.wait() == 0
        daemon.wait_for(r"^workers += 1$")
    with Daemon(project, "hello:Container", *options) as daemon:
        assert daemon.wait() == 0
        daemon.wait_for(rf"^workers += {len(os.sched_getaffinity(0))}$")
