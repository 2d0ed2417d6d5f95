"""What a burst leaves to the allocator goes back to the system."""

import sys

from testkit.processes import Program

BURST = """
from api_hour.worker import memory
from api_hour.worker.recycling import resident

free = memory.FreeMemory()
before = resident()
burst = [bytes(40_000) for _ in range(4_000)]
rest = [bytes(600) for _ in range(1_000)]  # above the burst: glibc alone keeps all below it
del burst
after = resident()
for _ in range(memory.INTERVAL):
    free.give_back()
print(f"grew {(after - before) >> 20}, keeps {(resident() - before) >> 20} MiB")
"""


def test_a_worker_gives_free_memory_back() -> None:
    with Program(sys.executable, "-c", BURST) as program:
        sizes = program.wait_for(r"grew (\d+), keeps (\d+) MiB")
        grew, keeps = int(sizes[1]), int(sizes[2])
        assert grew > 100
        assert keeps < 16
