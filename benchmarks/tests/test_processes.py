"""CPU time and memory are sums over the processes of a session."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks import processes
from testkit.processes import Program, session

# A parent waits for a child that works for a while, then works itself, then sleeps.
BUSY = """
import subprocess, sys, time
work = "import time\\nend = time.process_time() + 0.3\\nwhile time.process_time() < end: pass"
subprocess.run([sys.executable, "-c", work])
exec(work)
print("done", flush=True)
time.sleep(600)
"""


@contextmanager
def leader(code: str) -> Iterator[Program]:
    """Run Python code in a session of its own until it prints a line."""
    with Program(sys.executable, "-c", code) as program:
        program.wait_for("^done$")
        yield program


def test_cpu_counts_a_process_and_its_ended_children() -> None:
    with leader(BUSY) as program:
        used = processes.cpu(program.pid)
        time.sleep(0.2)
        assert processes.cpu(program.pid) - used < 0.05
    assert 0.6 <= used < 2


def test_memory_is_the_sum_of_the_processes_and_tells_the_largest() -> None:
    code = (
        "import os, time\n"
        "if not os.fork(): data = bytearray(50_000_000); print('done', flush=True)\n"
        "time.sleep(600)"
    )
    with leader(code) as program:
        assert len(session(program.pid)) == 2
        memory = processes.memory(program.pid)
        for pid in session(program.pid):
            if pid != program.pid:
                os.kill(pid, signal.SIGKILL)
    assert 50_000_000 < memory.worker_pss <= memory.worker_rss < 100_000_000
    assert memory.rss > memory.worker_rss + 1_000_000
    assert memory.worker_pss < memory.pss < memory.rss


def test_a_session_that_is_over_has_no_processes() -> None:
    with leader("print('done', flush=True)") as program:
        program.wait()
        assert session(program.pid) == []
        assert processes.cpu(program.pid) == 0
