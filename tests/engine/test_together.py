"""What lies between the parts: limits and cancel, workflows and limits, forks of limited runs, clocks set back."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from typing import Any

import pytest

from durable_nb import (
    ConcurrencyExpression,
    ConcurrencyLimitStrategy,
    Context,
    Durable,
    DurableContext,
    RateLimit,
)
from durable_nb.errors import RateLimitError, RunCancelledError, TaskRunError
from durable_nb.testing import VirtualClock
from tests.engine.helpers import Bench, opened, reach, settle, view, wait_until

CANCEL_OLD = ConcurrencyExpression("'all'", 1, ConcurrencyLimitStrategy.CANCEL_IN_PROGRESS)
CANCEL_NEW = ConcurrencyExpression("'all'", 1, ConcurrencyLimitStrategy.CANCEL_NEWEST)
ONE = ConcurrencyExpression("'all'", 1)


def limited_workflow(durable: Durable, **options: Any) -> Any:
    flow = durable.workflow(name="flow")

    @flow.task(name="part", **options)
    async def part(input: Any, ctx: Context) -> int:
        return 1

    return flow


def test_a_workflows_task_that_its_concurrency_cancels_at_birth_cancels_the_run(bench: Bench, durable: Durable) -> None:
    flow = durable.workflow(name="flow")
    gate = threading.Event()

    @flow.task(name="part", concurrency=[CANCEL_NEW])
    async def part(input: Any, ctx: Context) -> int:
        await opened(gate)
        return 1

    first = flow.run(wait_for_result=False)
    wait_until(lambda: bench.rows("SELECT 1 FROM place WHERE state = 1"), what="the first part")
    second = flow.run(wait_for_result=False)
    with pytest.raises(RunCancelledError):
        asyncio.run(asyncio.wait_for(second.aio_result(), 5))
    gate.set()
    assert first.result() == {"part": 1}


def test_a_workflows_task_that_no_rate_limit_lets_through_fails_the_run(bench: Bench, durable: Durable) -> None:
    flow = limited_workflow(durable, rate_limits=[RateLimit(static_key="nobody set it", units=1)])
    ref = flow.run(wait_for_result=False)
    with pytest.raises((TaskRunError, RateLimitError), match="nobody set it"):
        asyncio.run(asyncio.wait_for(ref.aio_result(), 5))
    assert view(durable, ref).status == "FAILED"


def test_a_cancel_that_meets_continue_as_new_ends_the_run(bench: Bench, durable: Durable) -> None:
    gate, here = threading.Event(), threading.Event()

    @durable.durable_task(name="agent")
    async def agent(input: Any, ctx: DurableContext) -> None:
        await ctx.aio_now()
        here.set()
        gate.wait()  # the loop itself: the cancel is written, and not delivered
        ctx.continue_as_new({"n": 2})

    two = bench.durable()
    ref = agent.run({"n": 1}, wait_for_result=False)
    here.wait()
    two.runs.cancel(ref.workflow_run_id)
    gate.set()
    with pytest.raises(RunCancelledError):
        asyncio.run(asyncio.wait_for(ref.aio_result(), 5))


def test_a_fork_of_a_limited_run_stands_in_its_line(bench: Bench, durable: Durable) -> None:
    gate = threading.Event()
    now, most = [0], [0]

    @durable.durable_task(name="agent", concurrency=[ONE])
    async def agent(input: Any, ctx: DurableContext) -> int:
        await ctx.aio_now()
        now[0] += 1
        most[0] = max(most[0], now[0])
        await opened(gate)
        now[0] -= 1
        return 1

    ref = agent.run(wait_for_result=False)
    wait_until(lambda: now[0] == 1)
    fork = durable.runs.fork(ref, 1)
    settle(durable)
    assert most == [1]
    gate.set()
    assert (ref.result(), fork.result()) == (1, 1)
    assert bench.rows("SELECT * FROM place WHERE state IS NOT NULL") == []


def test_a_fork_of_a_triggered_run_knows_its_event(bench: Bench, durable: Durable) -> None:
    @durable.durable_task(name="agent", on_events=["go"])
    async def agent(input: Any, ctx: DurableContext) -> list[Any]:
        if ctx.was_triggered_by_event:
            await ctx.aio_now()
        await ctx.aio_sleep_for(timedelta(0))
        return [ctx.was_triggered_by_event]

    durable.event.push("go", {"a": 1})
    run = wait_until(lambda: durable.runs.list(task="agent", status="COMPLETED"))[0]
    fork = durable.runs.fork(run.id, 2)
    assert asyncio.run(asyncio.wait_for(fork.aio_result(), 5)) == [True]


def test_the_newest_is_cancelled_before_an_older_one_makes_room_for_it(bench: Bench, durable: Durable) -> None:
    gate = threading.Event()

    @durable.task(
        name="work",
        concurrency=[
            ConcurrencyExpression("'a'", 1, ConcurrencyLimitStrategy.CANCEL_IN_PROGRESS),
            ConcurrencyExpression("'b'", 1, ConcurrencyLimitStrategy.CANCEL_NEWEST),
        ],
    )
    async def work(input: Any, ctx: Context) -> int:
        await opened(gate)
        return 1

    first = work.run(wait_for_result=False)
    reach(durable, first, lambda run: run.status == "RUNNING")
    second = work.run(wait_for_result=False)
    with pytest.raises(RunCancelledError):
        second.result()
    gate.set()
    assert first.result() == 1


@pytest.mark.parametrize("how", ["returns", "times out", "fails"])
def test_on_finish_is_told_that_a_cancelled_run_is_cancelled(bench: Bench, durable: Durable, how: str) -> None:
    told: list[str] = []

    @durable.durable_task(name="agent", execution_timeout="5s", retries=2)
    async def agent(input: Any, ctx: DurableContext) -> None:
        ctx.on_finish(told.append)
        try:
            await ctx.aio_sleep_for(timedelta(hours=1))
        except asyncio.CancelledError:
            if how == "times out":
                started.set()
                await asyncio.sleep(100)
            if how == "fails":
                raise ValueError("unclean") from None

    started = threading.Event()
    ref = agent.run(wait_for_result=False)
    bench.asked(ref, 1)
    durable.runs.cancel(ref)
    if how == "times out":
        started.wait()
        bench.clock.advance(timedelta(seconds=6))
    with pytest.raises(RunCancelledError):
        asyncio.run(asyncio.wait_for(ref.aio_result(), 5))
    assert told == ["CANCELLED"]


class SetBack(VirtualClock):
    """A clock that somebody sets."""

    offset = 0.0

    def now(self) -> float:
        return super().now() + self.offset


@pytest.mark.parametrize("is_opened_again", [False, True])
def test_a_clock_set_back_keeps_no_ready_run_waiting(bench: Bench, is_opened_again: bool) -> None:
    bench.clock = clock = SetBack()

    def declare() -> tuple[Durable, Any]:
        app = bench.durable()

        @app.task(name="work", retries=1, backoff_factor=60)
        async def work(input: Any, ctx: Context) -> int:
            return 1 + input // ctx.retry_count if input else 1

        return app, work

    durable, work = declare()
    late = work.run(1, wait_for_result=False)
    reach(durable, late, lambda run: run.retry_count == 1)
    work.pause()
    ref = work.run(0, wait_for_result=False)
    if is_opened_again:
        durable.close()
    else:
        settle(durable)
    clock.offset = -3600
    if is_opened_again:
        durable, work = declare()
    work.unpause()
    assert durable.runs.get_run_ref(ref.workflow_run_id).result() == 1
    settle(durable)
    assert view(durable, late).status == "QUEUED"  # a back-off ends when the clock says so
    clock.advance(hours=2)
    assert durable.runs.get_run_ref(late.workflow_run_id).result() == 2


@pytest.mark.parametrize("is_evicted", [False, True])
def test_a_superseded_run_keeps_its_place_until_its_clean_up_is_over(bench: Bench, durable: Durable, is_evicted: bool) -> None:
    story: list[Any] = []

    @durable.durable_task(name="agent", concurrency=[CANCEL_OLD])
    async def agent(input: int, ctx: DurableContext) -> int:
        ctx.on_finish(lambda status: story.append((status, input)))
        try:
            await ctx.aio_wait_for_event("go")
        except asyncio.CancelledError:
            await ctx.aio_sleep_for(timedelta(seconds=5))
            raise
        return input

    older = agent.run(1, wait_for_result=False)
    bench.asked(older, 1)
    if is_evicted:
        wait_until(lambda: durable.runs.evict(older))
    newer = agent.run(2, wait_for_result=False)
    bench.asked(older, 2)
    settle(durable)
    assert view(durable, newer).status == "QUEUED"
    bench.clock.advance(seconds=5)
    with pytest.raises(RunCancelledError, match="CANCEL_IN_PROGRESS"):
        older.result()
    bench.asked(newer, 1)
    durable.event.push("go", {})
    assert newer.result() == 2
    assert story == [("CANCELLED", 1), ("COMPLETED", 2)]
    assert bench.rows("SELECT * FROM place WHERE state IS NOT NULL") == []
