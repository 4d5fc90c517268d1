"""Sleeps and time: a deadline is fixed when first asked, and what a task draws is the same in every replay."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from durable_nb import Durable, DurableContext, SleepResult, TaskRunError
from durable_nb.tasks.task import Task
from tests.engine.helpers import Bench, reach, settle, view

HOUR = timedelta(hours=1)


def sleeper(durable: Durable) -> Task[Any]:
    @durable.durable_task()
    async def sleep(input: float, ctx: DurableContext) -> list[float]:
        result = await ctx.aio_sleep_for(timedelta(seconds=input))
        assert isinstance(result, SleepResult)
        return [result.duration.total_seconds(), result.elapsed.total_seconds()]

    return sleep


def close(bench: Bench) -> None:
    bench.close()


def crash(bench: Bench) -> None:
    bench.crash()


@pytest.mark.parametrize("interrupt", [close, crash])
@pytest.mark.parametrize("while_down", [False, True])
def test_a_day_keeps_its_deadline(bench: Bench, interrupt: Callable[[Bench], None], while_down: bool) -> None:
    """24 h asked, 23 h gone, the process dies: 1 h is left, whether those 23 h passed before or after its death."""
    durable = bench.durable()
    ref = sleeper(durable).run(86400, wait_for_result=False)
    bench.asked(ref, 1)
    if not while_down:
        bench.clock.advance(23 * HOUR)
        settle(durable)
    interrupt(bench)
    if while_down:
        bench.clock.advance(23 * HOUR)
    durable = bench.durable()
    sleeper(durable)
    settle(durable)
    bench.clock.advance(HOUR - timedelta(seconds=1))
    settle(durable)
    assert view(durable, ref).status == "RUNNING"
    assert bench.open_waits(ref) == ["sleep:1d"]
    bench.clock.advance(1)
    assert durable.runs.get_run_ref(ref.workflow_run_id).result() == [86400, 86400]


def test_a_sleep_that_ended_while_nobody_lived_is_over_at_once(bench: Bench) -> None:
    durable = bench.durable()
    ref = sleeper(durable).run(86400, wait_for_result=False)
    bench.asked(ref, 1)
    durable.close()
    bench.clock.advance(48 * HOUR)
    durable = bench.durable()
    sleeper(durable)
    duration, elapsed = durable.runs.get_run_ref(ref.workflow_run_id).result()
    assert (duration, elapsed) == (86400, 2 * 86400)


@pytest.mark.parametrize("seconds", [0.001, 0.25, 1, 3600, 86400 * 3650])
def test_any_duration_is_never_early(bench: Bench, durable: Durable, seconds: float) -> None:
    ref = sleeper(durable).run(seconds, wait_for_result=False)
    bench.asked(ref, 1)
    bench.clock.advance(seconds * 0.5)
    settle(durable)
    assert len(bench.open_waits(ref)) == 1
    bench.clock.advance(seconds * 0.5 + 0.0001)
    duration, elapsed = ref.result()
    assert duration == seconds
    assert elapsed >= seconds


def test_zero_is_over_at_once(durable: Durable) -> None:
    assert sleeper(durable).run(0) == [0, 0]


def test_many_sleeps_end_in_the_order_of_their_deadlines(bench: Bench, durable: Durable) -> None:
    ends: list[float] = []

    @durable.durable_task()
    async def sleep(input: float, ctx: DurableContext) -> None:
        await ctx.aio_sleep_for(timedelta(seconds=input))
        ends.append(input)

    refs = sleep.run_many([sleep.create_bulk_run_item(input=seconds) for seconds in (30, 10, 20)], wait_for_result=False)
    for ref in refs:
        bench.asked(ref, 1)
    for _ in range(3):
        bench.clock.advance(10)
        settle(durable)
    for ref in refs:
        ref.result()
    assert ends == [10, 20, 30]


def test_a_sleep_that_cannot_work_is_refused_with_a_sentence(bench: Bench, durable: Durable) -> None:
    refused: list[str] = []

    @durable.durable_task()
    async def careless(input: Any, ctx: DurableContext) -> None:
        asks: list[Callable[[], Any]] = [
            lambda: ctx.aio_sleep_for(timedelta(seconds=-1)),
            lambda: ctx.aio_sleep_for(5),  # type: ignore[arg-type]
            lambda: ctx.aio_sleep_until(datetime(2026, 1, 1)),
        ]
        for ask in asks:
            try:
                await ask()
            except Exception as error:
                refused.append(f"{type(error).__name__}: {error}")

    ref = careless.run(wait_for_result=False)
    ref.result()
    assert len(refused) == 3
    assert "time zone" in refused[2]
    assert all(not line.startswith(("AttributeError", "NameError")) for line in refused)
    assert bench.asks(ref) == []


# ---------------------------------------------------------------- sleep_until


def test_sleep_until_takes_two_checkpoints_and_keeps_its_time(bench: Bench) -> None:
    until = datetime.fromtimestamp(bench.clock.now(), UTC) + HOUR

    def engine() -> tuple[Durable, Task[Any]]:
        durable = bench.durable()

        @durable.durable_task()
        async def wake(input: datetime, ctx: DurableContext) -> float:
            return (await ctx.aio_sleep_until(input)).elapsed.total_seconds()

        return durable, wake

    first, wake = engine()
    ref = wake.run(until, wait_for_result=False)
    bench.asked(ref, 2)
    bench.clock.advance(1800)
    first.close()
    second, _ = engine()
    settle(second)
    bench.clock.advance(1799)
    settle(second)
    assert view(second, ref).status == "RUNNING"
    bench.clock.advance(1)
    assert second.runs.get_run_ref(ref.workflow_run_id).result() == 3600
    assert len(bench.asks(ref)) == 2


def test_a_past_time_returns_at_once(durable: Durable) -> None:
    @durable.durable_task()
    async def wake(input: Any, ctx: DurableContext) -> float:
        return (await ctx.aio_sleep_until(datetime(2001, 1, 1, tzinfo=UTC))).elapsed.total_seconds()

    assert wake.run() == 0


# ---------------------------------------------------------------- now, random, uuid4


def test_now_and_draws_are_the_same_in_every_replay(bench: Bench) -> None:
    seen: list[list[Any]] = []

    def engine() -> tuple[Durable, Task[Any]]:
        durable = bench.durable()

        @durable.durable_task()
        async def draw(input: Any, ctx: DurableContext) -> list[Any]:
            now = await ctx.aio_now()
            assert now.utcoffset() == timedelta(0)
            drawn = [now.timestamp(), ctx.random(), str(ctx.uuid4()), ctx.random(), str(ctx.uuid4())]
            seen.append(drawn)
            await ctx.aio_wait_for_event("go")
            return [*drawn, ctx.random()]

        return durable, draw

    first, draw = engine()
    started = bench.clock.now()
    ref = draw.run(wait_for_result=False)
    bench.asked(ref, 2)
    first.close()
    bench.clock.advance(HOUR)
    second, draw = engine()
    second.event.push("go")
    drawn = second.runs.get_run_ref(ref.workflow_run_id).result()
    assert seen[0] == seen[1] == drawn[:5]
    assert drawn[0] == started
    assert len({*drawn[1:]}) == 5
    assert all(0 <= drawn[index] < 1 for index in (1, 3, 5))

    other = draw.run(wait_for_result=False)
    reach(second, other, lambda run: len(bench.asks(other)) == 2)
    assert not {*seen[2][1:]} & {*drawn[1:]}, "another run draws something else"


def test_a_failing_task_still_says_its_error(durable: Durable) -> None:
    @durable.durable_task()
    async def fails(input: Any, ctx: DurableContext) -> None:
        await ctx.aio_sleep_for(timedelta(0))
        raise LookupError("after the sleep")

    with pytest.raises(TaskRunError, match="LookupError: after the sleep"):
        fails.run()
