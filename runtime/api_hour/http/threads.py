"""Endpoints that block: plain functions, which run in the worker's thread pool."""

import asyncio
import contextvars
import functools
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from aiohttp import web

T = TypeVar("T")
Endpoint = Callable[[web.Request], Coroutine[Any, Any, web.StreamResponse]]

_loop: contextvars.ContextVar[asyncio.AbstractEventLoop] = contextvars.ContextVar("api_hour_loop")


def threaded(function: Callable[[web.Request], web.StreamResponse]) -> Endpoint:
    """Turn a plain function into an endpoint that runs in the worker's thread pool."""

    @functools.wraps(function)
    async def endpoint(request: web.Request) -> web.StreamResponse:
        _loop.set(asyncio.get_running_loop())
        return await asyncio.to_thread(function, request)

    return endpoint


def from_thread(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the worker's loop from a ``threaded`` endpoint; return its result.

    Raises RuntimeError if the caller is not inside such an endpoint.
    """
    loop = _loop.get(None)
    if loop is None or _is_running(loop):
        coroutine.close()
        raise RuntimeError("from_thread() works inside an @api_hour.threaded endpoint only")
    return asyncio.run_coroutine_threadsafe(coroutine, loop).result()


def _is_running(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether the calling thread is the loop's own, where waiting would never end."""
    return asyncio._get_running_loop() is loop
