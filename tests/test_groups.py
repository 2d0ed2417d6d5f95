"""How the tests of this repository are dealt out to processes."""

import os
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from testkit.projects import ROOT

PLUGINS = "xdist.plugin,xdist.looponfail,pytest_timeout"  # all others only cost a start's seconds
FAULTS = "runtime/tests/chaos/test_chaos.py"
GROUPS = {
    FAULTS: "faults",
    "runtime/tests/test_first.py": "first",
    "runtime/tests/test_second.py": "second",
    "tests/test_container.py": "release",
    "tests/test_release.py": "release",
}
TESTS = """
import os, pathlib, time
import pytest

notes = pathlib.Path({notes!r})

@pytest.mark.parametrize("number", range(10))
def test(number):
    with notes.open("a") as file:
        print(os.getpid(), {group!r}, file=file)
    while {group!r} == "faults" and len(processes()) < 2:  # both processes deal with them
        time.sleep(0.01)

def processes():
    lines = [line.split() for line in notes.read_text().splitlines()]
    return {{process for process, group in lines if group == "faults"}}
"""


def test_tests_that_share_run_in_one_process_and_single_ones_last(tmp_path: Path) -> None:
    shutil.copy(ROOT / "conftest.py", tmp_path)
    notes = tmp_path / "notes"
    for name, group in GROUPS.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(TESTS.format(notes=str(notes), group=group))
    command = [sys.executable, "-m", "pytest", "--numprocesses=2", "--dist=loadscope"]
    command += [f"--rootdir={tmp_path}", "--import-mode=importlib", "--timeout=120", "-x", "."]
    environment = {name: value for name, value in os.environ.items() if "PYTEST" not in name}
    environment |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": PLUGINS}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    processes = defaultdict(list)
    for line in notes.read_text().splitlines():
        process, group = line.split()
        processes[process].append(group)
    assert len(processes) == 2
    first, second = sorted(processes.values(), key=lambda groups: "release" not in groups)
    assert first[:20] == ["release"] * 20
    for groups in (first, second):
        assert groups == sorted(groups, key=lambda group: group == "faults")
        assert {groups.count(name) for name in ("first", "second")} <= {0, 10}
    assert first.count("faults") + second.count("faults") == 10
