"""Endpoints that block: plain functions, which run in threads of their own.

They share one pool in each worker, apart from the loop's default executor. What they call by
``from_thread`` may use that executor, and so do files and name resolution; in one pool, endpoints
that wait for such a call would hold every thread that could serve it, for good. The runtime's own
endpoints have a pool that no endpoint of the project can fill.

The threads are daemons, unlike those of ``concurrent.futures``, for which the interpreter waits
without a limit: the drain waits for them, and no longer than its deadline.
"""

import asyncio
import contextvars
import functools
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")
Work = tuple["Future[Any]", Callable[[], Any]]

THREADS = 32  # until a server says otherwise; the default of the setting
RUNTIME_THREADS = 2
_loop: contextvars.ContextVar[asyncio.AbstractEventLoop] = contextvars.ContextVar("api_hour_loop")


def threaded(function: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Turn a plain function into an endpoint that runs in one of the worker's ``threads``."""
    return _endpoint(function, endpoints)


def threaded_apart(function: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Do the same for an endpoint of the runtime, which never waits for those of the project."""
    return _endpoint(function, runtime)


def from_thread(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the worker's loop from a ``threaded`` endpoint; return its result.

    Raises RuntimeError if the caller is not inside such an endpoint.
    """
    loop = _loop.get(None)
    if loop is None or _is_running(loop):
        coroutine.close()
        raise RuntimeError("from_thread() works inside an @api_hour.threaded endpoint only")
    return asyncio.run_coroutine_threadsafe(coroutine, loop).result()


class Threads(Executor):
    """At most ``size`` daemon threads, started when they are needed."""

    def __init__(self, size: int, name: str) -> None:
        self.size = size
        self._name = name
        self._started = 0
        self._idle = threading.Semaphore(0)
        self._queue: SimpleQueue[Work] = SimpleQueue()
        self._unfinished: set[Future[Any]] = set()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Call a function in a thread; cancelling the future helps while it waits for one."""
        if not self._idle.acquire(blocking=False) and self._started < self.size:
            name = f"{self._name}-{self._started + 1}"
            threading.Thread(target=self._work, name=name, daemon=True).start()
            self._started += 1
        future: Future[Any] = Future()
        self._unfinished.add(future)
        future.add_done_callback(self._unfinished.discard)
        self._queue.put((future, functools.partial(fn, *args, **kwargs)))
        return future

    async def finish(self, deadline: float) -> None:
        """Wait until no call is left, at most until ``deadline`` (``loop.time()``)."""
        calls = [asyncio.wrap_future(future) for future in list(self._unfinished)]
        if calls:  # what they raise is for those who called
            ended = asyncio.gather(*calls, return_exceptions=True)
            await asyncio.wait([ended], timeout=deadline - asyncio.get_running_loop().time())

    def _work(self) -> None:
        while True:
            future, call = self._queue.get()
            if future.set_running_or_notify_cancel():
                try:
                    result = call()
                except BaseException as error:
                    future.set_exception(error)
                else:
                    future.set_result(result)
                    del result
            del future, call  # an idle thread keeps no request alive
            self._idle.release()


endpoints = Threads(THREADS, "endpoint")
runtime = Threads(RUNTIME_THREADS, "runtime")


def _endpoint(function: Callable[P, T], threads: Threads) -> Callable[P, Coroutine[Any, Any, T]]:
    @functools.wraps(function)
    async def endpoint(*args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        _loop.set(loop)
        context = contextvars.copy_context()
        call = functools.partial(context.run, function, *args, **kwargs)
        return await loop.run_in_executor(threads, call)

    return endpoint


def _is_running(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether the calling thread is the loop's own, where waiting would never end."""
    return asyncio._get_running_loop() is loop
