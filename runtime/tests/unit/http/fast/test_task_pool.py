"""A pooled task: lent for one step, kept by what suspends, never shared by two coroutines."""

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from typing import Any

import pytest

from api_hour.http.fast import task_pool
from api_hour.http.fast.task_pool import IDLE, PooledTask, TaskPool, resume, run_in_context
from testkit.wire import LOOPS, run_on

Run = Callable[[Coroutine[Any, Any, None]], None]
color: contextvars.ContextVar[str] = contextvars.ContextVar("color", default="none")


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Run:
    """Return a function that runs a scenario on one of the event loops."""
    return lambda scenario: run_on(request.param, scenario)


async def one_task() -> tuple[TaskPool, PooledTask]:
    """Return a pool and its only task, which waits."""
    pool = TaskPool(asyncio.get_running_loop())
    pool.grow()
    assert pool.waiting == []  # its task has not run yet
    await asyncio.sleep(0)
    (pooled,) = pool.waiting
    return pool, pooled


def first_step(pooled: PooledTask, coroutine: Coroutine[Any, Any, Any]) -> None:
    """Take the first step of a coroutine as a protocol does: outside any task."""
    done = asyncio.get_running_loop().create_future()

    def callback() -> None:
        try:
            pooled.take_first_step(coroutine, copy_context())
        finally:
            done.set_result(None)

    asyncio.get_running_loop().call_soon(callback)
    pooled_steps[pooled] = done


pooled_steps: dict[PooledTask, asyncio.Future[None]] = {}


async def taken(pooled: PooledTask) -> None:
    """Wait until the first step was taken."""
    await pooled_steps.pop(pooled)


async def who() -> asyncio.Task[Any] | None:
    return asyncio.current_task()


async def who_twice() -> list[asyncio.Task[Any] | None]:
    before = asyncio.current_task()
    await asyncio.sleep(0)
    return [before, asyncio.current_task()]


async def failing() -> None:
    raise ValueError("at once")


def test_a_coroutine_that_ends_at_once_only_borrows_the_task(run: Run) -> None:
    async def scenario() -> None:
        pool, pooled = await one_task()
        for _ in range(3):
            first_step(pooled, who())
            await taken(pooled)
            assert (pooled.step, pooled.outcome, pooled.error) == (IDLE, pooled.task, None)
            assert pool.waiting == [pooled]
        pool.close()

    run(scenario())


def test_what_it_raises_is_kept_and_the_task_lives_on(run: Run) -> None:
    async def scenario() -> None:
        pool, pooled = await one_task()
        first_step(pooled, failing())
        await taken(pooled)
        assert repr(pooled.error) == "ValueError('at once')"
        with pytest.raises(ValueError, match="at once"):
            await pooled.remaining_steps()
        assert (pooled.error, pool.waiting) == (None, [pooled])
        pool.close()

    run(scenario())


def test_a_coroutine_that_suspends_keeps_the_task_and_the_pool_gets_another(run: Run) -> None:
    async def scenario() -> None:
        pool, pooled = await one_task()
        first_step(pooled, who_twice())
        await taken(pooled)
        assert pooled.step is not IDLE
        results = []

        async def rest() -> None:
            results.append(await pooled.remaining_steps())

        pooled.hand_over_to_task(rest())
        assert pool.waiting == []
        await pooled.task
        assert results == [[pooled.task, pooled.task]]
        (other,) = pool.waiting
        assert other.task is not pooled.task
        pool.close()

    run(scenario())


def test_a_cancelled_task_leaves_the_pool(run: Run) -> None:
    async def scenario() -> None:
        pool, pooled = await one_task()
        pooled.task.cancel()
        assert pool.waiting == []
        with pytest.raises(asyncio.CancelledError):
            await pooled.task
        assert pooled not in pool.waiting
        assert len(pool.waiting) == 1
        pool.close()

    run(scenario())


def test_a_cancellation_between_hand_over_and_first_turn_reaches_the_coroutine(run: Run) -> None:
    async def scenario() -> None:
        reached = asyncio.Event()

        async def waiting() -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                reached.set()
                raise

        pool, pooled = await one_task()
        first_step(pooled, waiting())
        await taken(pooled)
        pooled.hand_over_to_task(pooled.remaining_steps())
        pooled.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pooled.task
        assert reached.is_set()
        pool.close()

    run(scenario())


def test_inside_a_task_no_other_can_be_borrowed(run: Run) -> None:
    async def scenario() -> None:
        pool, pooled = await one_task()
        coroutine = who()
        with pytest.raises(RuntimeError):
            pooled.take_first_step(coroutine, copy_context())
        coroutine.close()
        assert asyncio.current_task() is not pooled.task
        pool.close()

    run(scenario())


def test_the_pool_has_a_size_and_a_closed_one_is_empty(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        pool = TaskPool(asyncio.get_running_loop())
        for _ in range(10):
            pool.grow()
        await asyncio.sleep(0)
        assert len(pool.waiting) == 3
        tasks = [pooled.task for pooled in pool.waiting]
        pool.close()
        await asyncio.wait(tasks)
        assert all(task.cancelled() for task in tasks)
        assert pool.waiting == []
        pool.grow()
        await asyncio.sleep(0)
        assert pool.waiting == []

    monkeypatch.setattr(task_pool, "MAX_WAITING", 3)
    run(scenario())


def test_the_rest_of_a_coroutine_is_resumed_where_it_waits(run: Run) -> None:
    async def scenario() -> None:
        coroutine = asyncio.sleep(0, "result")
        assert await resume(coroutine.send(None), coroutine) == "result"
        waiting = asyncio.Event().wait()
        task = asyncio.ensure_future(wrap(resume(waiting.send(None), waiting)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(scenario())


async def wrap(awaitable: Any) -> Any:
    return await awaitable


def test_every_step_runs_in_the_context_that_is_given(run: Run) -> None:
    async def paint() -> str:
        color.set("red")
        await asyncio.sleep(0)
        return color.get()

    async def scenario() -> None:
        assert await run_in_context(copy_context(), paint()) == "red"
        assert color.get() == "none"

    run(scenario())
