"""CPU-bound work in other processes: ``api_hour primes:Container``."""

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import asynccontextmanager
from multiprocessing.connection import wait
from typing import Annotated, TypeVar

import api_hour
import msgspec
from aiohttp import web
from counting import count_primes

T = TypeVar("T")
MOST = 20  # jobs that run or wait, in each worker; one more is answered 503


class Processes:
    """A pool of processes that a worker has for itself."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._jobs = 0
        self._executor = self._open()

    def _open(self) -> ProcessPoolExecutor:
        spawn = multiprocessing.get_context("spawn")  # never fork
        return ProcessPoolExecutor(self._size, mp_context=spawn, initializer=obey_worker)

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """Call a function in one of the processes; both it and its arguments are pickled."""
        if self._jobs >= MOST:
            raise api_hour.EngineUnavailable(f"{MOST} jobs run or wait")
        self._jobs += 1
        executor = self._executor
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(executor, function, *arguments)
        except BrokenProcessPool as error:  # one of its processes was killed
            if executor is self._executor:
                self._executor = self._open()
            raise api_hour.EngineUnavailable(str(error)) from error
        finally:
            self._jobs -= 1

    async def close(self) -> None:
        """Wait for the jobs that run, without holding up the loop; what waits is cancelled."""
        await asyncio.to_thread(self._executor.shutdown, cancel_futures=True)


def obey_worker() -> None:
    """Leave Ctrl-C to the worker, and end as soon as it is gone, also when it was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_after_worker, daemon=True).start()


def _end_after_worker() -> None:
    worker = multiprocessing.parent_process()
    assert worker is not None  # noqa: S101
    wait([worker.sentinel])
    os._exit(1)


Limit = Annotated[int, msgspec.Meta(ge=0, le=20_000_000)]


async def count(limit: Limit, processes: Processes) -> int:
    """Return how many primes are below a limit."""
    return await processes.run(count_primes, limit)


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    processes: int


class Container(api_hour.Container):
    settings = Settings

    @asynccontextmanager
    async def engines(self) -> AsyncIterator[None]:
        self.processes = Processes(self.config.processes)
        try:
            yield
        finally:
            await self.processes.close()

    def servers(self) -> dict[str, api_hour.Server]:
        app = web.Application()
        api = api_hour.API(app, title="Primes", version="1.0")
        api.provide(self.processes)
        api.get("/primes/{limit}", count, errors=[503])
        return {"http": api_hour.HTTPServer(app)}
