"""Spare tasks: a real task for a coroutine whose first step is taken without waiting for one.

Knows asyncio and nothing of HTTP. Most coroutines end within their first step and only borrow a
task's identity; the first one that suspends keeps the task, and the task ends with it.
"""

import asyncio
import types
from asyncio import _enter_task, _leave_task
from collections.abc import Coroutine, Generator
from contextvars import Context
from typing import Any, cast

IDLE = object()  # what a driver yields between two coroutines
LIMIT = 256  # tasks that wait

Steps = Generator[Any, Any, Any] | Coroutine[Any, Any, Any]


class Spares:
    """The tasks of one event loop that wait for a coroutine."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.waiting: list[Spare] = []
        self._made = 0

    def grow(self) -> None:
        """Add a task, which can be used from the loop's next turn on."""
        if self._made < LIMIT:
            self._made += 1
            Spare(self)

    def replace(self, spare: "Spare") -> None:
        """Take a task out, and make another one."""
        if spare in self.waiting:
            self.waiting.remove(spare)
            self._made -= 1
            self.grow()

    def close(self) -> None:
        """End the tasks that wait, and make no more."""
        self._made = LIMIT * 2
        for spare in list(self.waiting):
            spare.task.cancel()


class Spare(asyncio.Future[None]):
    """One such task; it waits for this future.

    ``step`` is what the coroutine waits for, or IDLE when it has ended with ``outcome`` or
    ``error``.
    """

    __slots__ = ("_carry", "_spares", "error", "outcome", "send", "step", "task", "throw")

    def __init__(self, spares: Spares) -> None:
        super().__init__(loop=spares.loop)
        self._spares = spares
        self._carry: Steps | None = None
        self.step: Any = IDLE
        self.outcome: Any = None
        self.error: BaseException | None = None
        driver = self._drive()
        driver.send(None)
        self.send, self.throw = driver.send, driver.throw
        self.task = spares.loop.create_task(self._live(), name="request")

    def begin(self, coroutine: Steps, context: Context) -> None:
        """Take the first step of ``coroutine``; raise RuntimeError inside of another task."""
        loop, task = self._spares.loop, self.task
        _enter_task(loop, task)
        try:
            self.step = context.run(self.send, coroutine)
        finally:
            _leave_task(loop, task)

    def carry_on(self, steps: Steps) -> None:
        """Let the task take ``steps`` and end with them."""
        self._carry = steps
        self._spares.replace(self)
        if not self.done():
            self.set_result(None)

    def cancel(self, msg: Any | None = None) -> bool:
        """Be used no more: who cancels the task may mean a coroutine that has ended."""
        self._spares.replace(self)
        return super().cancel(msg)

    @types.coroutine
    def rest(self, *_: object) -> Generator[Any, Any, Any]:
        """Be what is left of the coroutine after its first step."""
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

    async def _live(self) -> None:
        self._spares.waiting.append(self)
        try:
            await self
        except asyncio.CancelledError as exc:
            if self._carry is None:
                raise
            self.task.uncancel()  # it came before the first wake-up: it is the coroutine's
            self.task.cancel(*exc.args)
        try:
            await self._carry  # type: ignore[misc]
        finally:
            del self.send, self.throw  # a cycle

    @types.coroutine
    def _drive(self) -> Generator[Any, Any, Any]:
        """Run coroutines: a generator, to which their ends raise no costly StopIteration."""
        while True:
            coroutine = yield IDLE
            try:
                self.outcome = yield from coroutine
            except BaseException as exc:
                self.error = exc


@types.coroutine
def begun(first: Any, steps: Steps) -> Generator[Any, Any, Any]:
    """Be what is left of ``steps``, whose first step has been taken and waits for ``first``."""
    try:
        yield first
    except BaseException as exc:
        steps.throw(exc)  # what it raises goes on from here
    return (yield from cast(Generator[Any, Any, Any], steps))


@types.coroutine
def inside(context: Context, steps: Steps) -> Generator[Any, Any, Any]:
    """Take every one of ``steps`` in ``context``."""
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
