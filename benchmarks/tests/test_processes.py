"""CPU time and memory are those of all processes of a session."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks import processes

# A parent that waits for a busy child, then is busy itself, then idle.
BUSY = """
import subprocess, sys, time
work = "import time\\nend = time.process_time() + 0.3\\nwhile time.process_time() < end: pass"
subprocess.run([sys.executable, "-c", work])
exec(work)
print("done", flush=True)
sys.stdin.read()
"""


@contextmanager
def leader(code: str) -> Iterator["subprocess.Popen[str]"]:
    """Run Python code in a session of its own; yield it once it has printed "done"."""
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "done\n"
        yield process
        process.kill()


def test_cpu_counts_a_process_and_its_ended_children() -> None:
    with leader(BUSY) as process:
        used = processes.cpu(process.pid)
        time.sleep(0.2)
        assert processes.cpu(process.pid) - used < 0.05
    assert 0.6 <= used < 2


def test_memory_is_the_sum_of_the_processes_and_the_largest_one() -> None:
    code = (
        "import os, sys\n"
        "if not os.fork(): data = bytearray(50_000_000); print('done', flush=True)\n"
        "sys.stdin.read()"
    )
    with leader(code) as process:
        assert len(processes.session(process.pid)) == 2
        memory = processes.memory(process.pid)
        for pid in processes.session(process.pid):
            if pid != process.pid:
                subprocess.run(["kill", "-9", str(pid)], check=True)
    assert 50_000_000 < memory.worker_pss <= memory.worker_rss < 100_000_000
    assert memory.rss > memory.worker_rss + 1_000_000
    assert memory.worker_pss < memory.pss < memory.rss


def test_a_session_that_is_over_has_no_processes() -> None:
    with leader("print('done', flush=True)") as process:
        process.wait()
        assert processes.session(process.pid) == []
        assert processes.cpu(process.pid) == 0
