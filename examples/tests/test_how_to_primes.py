"""primes: work in other processes holds up nobody, and leaves no process behind."""

import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psutil

from examples.tests.asking import ask
from testkit.processes import Daemon
from testkit.waiting import until

LISTEN = {"http": "tcp://127.0.0.1:0"}
LONG = 8_000_000  # takes longer than to begin another process


def pool_of(worker: int) -> list[psutil.Process]:
    """Return the processes that work for a worker."""
    children = psutil.Process(worker).children()
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def test_work_holds_up_nobody_and_leaves_no_process(serve: Callable[..., Daemon]) -> None:
    daemon = serve("how_to", "primes:Container", LISTEN, workers=1)

    def count(limit: int) -> tuple[int, bytes]:
        answer = ask(daemon, f"GET /primes/{limit}")
        return answer.status, answer.body

    assert count(100) == (200, b"25")
    with ThreadPoolExecutor(1) as client:
        long = client.submit(count, LONG)
        assert count(1000) == (200, b"168")
        assert not long.done()
        (old,) = daemon.workers()
        of_old = pool_of(old)
        assert len(of_old) == 2
        daemon.send(signal.SIGHUP)  # the worker goes when the work is done
        assert long.result() == (200, b"539777")
    psutil.wait_procs(of_old, timeout=60)
    assert not any(process.is_running() for process in of_old)

    until(lambda: len(daemon.workers()) == 1 and old not in daemon.workers(), "no new worker")
    assert count(100) == (200, b"25")
    (worker,) = daemon.workers()
    pool_of(worker)[0].kill()
    until(lambda: count(100) == (200, b"25"), "the pool is not made again")
    of_worker = pool_of(worker)
    psutil.Process(worker).kill()
    psutil.wait_procs(of_worker, timeout=60)
    assert not any(process.is_running() for process in of_worker)
    assert daemon.stop() == 0
