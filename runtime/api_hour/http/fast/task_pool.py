"""Pooled tasks: a real task for a coroutine whose first step is taken without waiting for one.

Knows asyncio, and nothing of HTTP.

A coroutine needs a task: ``current_task()``, ``asyncio.timeout()``, cancellation and many
libraries ask for one. But to create a task for each request, and to wait for the loop's next turn
until it runs, costs more than most handlers do. So the pool keeps a few tasks that wait. A
coroutine borrows the identity of one of them (``_enter_task``) and takes its first step at once,
in the caller's stack:

* it returns or raises: the task goes on waiting, for the next coroutine;
* it suspends: the task is handed what is left of it (``hand_over_to_task``), leaves the pool, and
  ends with it. The pool creates another one in its place.

``Task(eager_start=True)`` of Python 3.12 does the same for one coroutine, but creates a task for
each: about 0.4 microseconds more a request.
"""

import asyncio
import types
from asyncio import _enter_task, _leave_task
from collections.abc import Coroutine, Generator
from contextvars import Context
from typing import Any, cast

IDLE = object()  # what a driver yields between two coroutines
MAX_WAITING = 256  # tasks

Steps = Generator[Any, Any, Any] | Coroutine[Any, Any, Any]


class TaskPool:
    """The tasks of one event loop that wait for a coroutine."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.waiting: list[PooledTask] = []
        self._size = 0  # those that wait, and those that have not had their first turn

    def grow(self) -> None:
        """Add a task, which can be used from the loop's next turn on."""
        if self._size < MAX_WAITING:
            self._size += 1
            PooledTask(self)

    def replace(self, pooled: "PooledTask") -> None:
        """Take a task out, and add another one."""
        if pooled in self.waiting:
            self.waiting.remove(pooled)
            self._size -= 1
            self.grow()

    def close(self) -> None:
        """Cancel the tasks that wait, and add no more."""
        self._size = MAX_WAITING * 2
        for pooled in list(self.waiting):
            pooled.task.cancel()


class PooledTask(asyncio.Future[None]):
    """One such task; it waits for this future.

    After a step, ``step`` is what the coroutine waits for, or IDLE when it has ended with
    ``outcome`` or ``error``. ``send`` and ``throw`` are those of the driver.
    """

    __slots__ = ("_pool", "_steps", "error", "outcome", "send", "step", "task", "throw")

    def __init__(self, pool: TaskPool) -> None:
        super().__init__(loop=pool.loop)
        self._pool = pool
        self._steps: Steps | None = None
        self.step: Any = IDLE
        self.outcome: Any = None
        self.error: BaseException | None = None
        driver = self._drive()
        driver.send(None)
        self.send, self.throw = driver.send, driver.throw
        self.task = pool.loop.create_task(self._run(), name="request")

    def take_first_step(self, coroutine: Steps, context: Context) -> None:
        """Take the first step of ``coroutine``; raises RuntimeError inside another task."""
        loop, task = self._pool.loop, self.task
        _enter_task(loop, task)
        try:
            self.step = context.run(self.send, coroutine)
        finally:
            _leave_task(loop, task)

    def hand_over_to_task(self, steps: Steps) -> None:
        """Let the task take ``steps``, and end with them."""
        self._steps = steps
        self._pool.replace(self)
        if not self.done():
            self.set_result(None)

    def cancel(self, msg: Any | None = None) -> bool:
        """Leave the pool: whoever cancels the task may mean a coroutine that has ended."""
        self._pool.replace(self)
        return super().cancel(msg)

    @types.coroutine
    def remaining_steps(self, *_: object) -> Generator[Any, Any, Any]:
        """Return what is left of the coroutine after its first step, as a coroutine.

        It takes and ignores arguments, so that it can stand in for a request handler.
        """
        while self.step is not IDLE:
            try:
                value = yield self.step
            except BaseException as exc:
                self.step = self.throw(exc)
            else:
                self.step = self.send(value)
        outcome, error = self.outcome, self.error
        self.outcome = self.error = None
        if error is not None:
            raise error
        return outcome

    async def _run(self) -> None:
        self._pool.waiting.append(self)
        try:
            await self
        except asyncio.CancelledError as exc:
            if self._steps is None:
                raise
            # Cancelled between the hand-over and the first wake-up: that is for the coroutine.
            self.task.uncancel()
            self.task.cancel(*exc.args)
        try:
            await self._steps  # type: ignore[misc]
        finally:
            del self.send, self.throw  # break a cycle

    @types.coroutine
    def _drive(self) -> Generator[Any, Any, Any]:
        """Run one coroutine after another.

        A generator, because its ``yield IDLE`` reports the end of a coroutine to ``send`` for
        less than a StopIteration costs.
        """
        while True:
            coroutine = yield IDLE
            try:
                self.outcome = yield from coroutine
            except BaseException as exc:
                self.error = exc


@types.coroutine
def resume(first: Any, steps: Steps) -> Generator[Any, Any, Any]:
    """Return what is left of ``steps``, whose first step was taken and waits for ``first``."""
    try:
        yield first
    except BaseException as exc:
        steps.throw(exc)  # what this raises goes on from here
    return (yield from cast(Generator[Any, Any, Any], steps))


@types.coroutine
def run_in_context(context: Context, steps: Steps) -> Generator[Any, Any, Any]:
    """Take every one of ``steps`` in ``context``: a task has one of its own, fixed when created."""
    step: Any = steps.send
    value: Any = None
    while True:
        try:
            waits_for = context.run(step, value)
        except StopIteration as end:
            return end.value
        try:
            value = yield waits_for
        except BaseException as exc:
            step, value = steps.throw, exc
        else:
            step = steps.send
