"""Steps: side effects with retries and a time-out of their own, recorded once."""

from __future__ import annotations

import asyncio
import functools
import threading
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from durable_nb import Durable, DurableContext, NonRetryableException, TaskRunError
from durable_nb.engine.clock import SystemClock
from durable_nb.errors import ArgumentError, DeclarationError
from tests.engine.helpers import Bench, settle, wait_until
from tests.engine.story import LEAVINGS, Story


class Price(BaseModel):
    amount: float


class Flaky:
    """Fails so many times, then gives how often it was called."""

    __qualname__ = "flaky"

    def __init__(self, failures: int, error: BaseException | None = None) -> None:
        self.failures = failures
        self.error = error or OSError("busy")
        self.calls = 0

    def __call__(self) -> int:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        return self.calls


async def then_end(ctx: DurableContext, work: Any) -> Any:
    """Do something, then wait for the event `end`, so that the run can still be replayed."""
    try:
        value = await work
    except TaskRunError as error:
        value = (error.exc_type, error.exc, error.node_id)
    await ctx.aio_wait_for_event("end")
    return value


@pytest.mark.parametrize("how", LEAVINGS)
def test_a_step_is_done_once_and_its_value_replayed(bench: Bench, how: str) -> None:
    flaky = Flaky(2)
    story = Story(bench, lambda _, ctx: then_end(ctx, ctx.aio_step(flaky, retries=2)))
    story.asked(2).leave(how)
    story.push("end")
    assert story.result() == 3
    assert flaky.calls == 3
    assert [ask for _, _, ask in bench.asks(story.ref)] == ["step flaky", "event end"]


@pytest.mark.parametrize("how", LEAVINGS)
def test_the_last_failure_is_the_outcome_live_and_replayed(bench: Bench, how: str) -> None:
    flaky, seen = Flaky(9), list[Any]()

    async def body(_: Any, ctx: DurableContext) -> Any:
        try:
            await ctx.aio_step(flaky, retries=1)
        except TaskRunError as error:
            seen.append((error.exc_type, error.exc, error.node_id))
        await ctx.aio_wait_for_event("end")

    story = Story(bench, body)
    story.asked(2).leave(how)
    story.push("end")
    assert story.result() is None
    assert seen == [("OSError", "busy", 1)] * 2
    assert flaky.calls == 2


def test_each_failed_attempt_is_a_line_of_the_runs_log(bench: Bench) -> None:
    story = Story(bench, lambda _, ctx: then_end(ctx, ctx.aio_step(Flaky(2), name="fetch", retries=1)))
    story.asked(2)
    assert story.lines() == [
        "step fetch: attempt 1 of 2 failed: OSError: busy; tried again",
        "step fetch: attempt 2 of 2 failed: OSError: busy",
    ]


@pytest.mark.parametrize(
    "error", [NonRetryableException("never"), ExceptionGroup("both", [OSError(), NonRetryableException("never")])]
)
def test_a_failure_that_no_retry_mends_ends_it(bench: Bench, error: Exception) -> None:
    flaky = Flaky(9, error)
    story = Story(bench, lambda _, ctx: then_end(ctx, ctx.aio_step(flaky, retries=5)))
    story.asked(2)
    assert flaky.calls == 1


def test_a_result_that_json_cannot_hold_is_not_tried_again(bench: Bench) -> None:
    calls: list[int] = []

    def give() -> object:
        calls.append(1)
        return object()

    story = Story(bench, lambda _, ctx: then_end(ctx, ctx.aio_step(give, retries=5)))
    story.asked(2)
    story.push("end")
    assert story.result()[0] == "IllegalTaskOutputError"
    assert calls == [1]


@pytest.mark.parametrize(("backoff", "pauses"), [(3.0, [3, 9]), (lambda attempt: 10 * attempt, [10, 20])])
def test_backoff_is_waited_between_attempts_by_the_engines_clock(bench: Bench, backoff: Any, pauses: list[int]) -> None:
    flaky = Flaky(2)
    story = Story(bench, lambda _, ctx: then_end(ctx, ctx.aio_step(flaky, retries=2, backoff=backoff)))
    for number, pause in enumerate(pauses, start=1):
        wait_until(lambda: len(story.lines()) == number)  # noqa: B023
        bench.clock.advance(pause - 0.5)
        settle(story.durable)
        assert flaky.calls == number
        bench.clock.advance(0.5)
        wait_until(lambda: flaky.calls == number + 1)  # noqa: B023
    story.asked(2)


def test_between_attempts_the_run_is_in_flight_and_not_evicted(bench: Bench) -> None:
    flaky = Flaky(1)
    story = Story(bench, lambda _, ctx: then_end(ctx, ctx.aio_step(flaky, retries=1, backoff=7200)))
    wait_until(lambda: len(story.lines()) == 1)
    settle(story.durable)
    assert not story.evict()
    bench.clock.advance(timedelta(hours=1))
    settle(story.durable)
    assert not story.view.is_evicted
    bench.clock.advance(timedelta(hours=1))
    story.asked(2)
    assert flaky.calls == 2


def test_a_coroutine_over_its_time_is_cancelled(bench: Bench) -> None:
    calls, cleaned = list[int](), list[int]()

    async def slow() -> str:
        calls.append(1)
        try:
            if len(calls) == 1:
                await asyncio.Event().wait()
        finally:
            cleaned.append(1)
        return "done"

    story = Story(bench, lambda _, ctx: then_end(ctx, ctx.aio_step(slow, retries=1, timeout="30s")))
    wait_until(lambda: calls)
    settle(story.durable)
    bench.clock.advance(29)
    settle(story.durable)
    assert cleaned == []
    bench.clock.advance(1)
    story.asked(2)
    assert (len(calls), len(cleaned)) == (2, 2)
    [line] = story.lines()
    assert line.startswith("step ")
    assert "ExecutionTimeoutError: Step " in line
    assert "took longer than its timeout of 30s.; tried again" in line


def test_a_coroutine_that_swallows_its_time_out_has_failed_all_the_same(bench: Bench) -> None:
    began: list[int] = []

    async def stubborn() -> str:
        began.append(1)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "late"
        return "never"

    story = Story(bench, lambda _, ctx: then_end(ctx, ctx.aio_step(stubborn, name="s", timeout=1)))
    wait_until(lambda: began)
    settle(story.durable)
    bench.clock.advance(1)
    story.asked(2)
    story.push("end")
    assert story.result() == ["ExecutionTimeoutError", "Step s took longer than its timeout of 1s.", 1]


def test_a_thread_over_its_time_goes_on_and_its_result_is_dropped(bench: Bench) -> None:
    gate, calls, ended = threading.Event(), list[int](), list[int]()

    def slow() -> int:
        calls.append(1)
        number = len(calls)
        if number == 1:
            gate.wait(10)
            ended.append(1)
        return number

    story = Story(bench, lambda _, ctx: then_end(ctx, ctx.aio_step(slow, name="slow", retries=1, timeout=5)))
    wait_until(lambda: calls)
    settle(story.durable)
    bench.clock.advance(5)
    story.asked(2)
    assert ended == []
    assert story.lines()[0] == "step slow: its thread cannot be stopped and goes on; what it gives is dropped"
    gate.set()
    wait_until(lambda: ended)
    story.push("end")
    assert story.result() == 2


@pytest.mark.slow
def test_time_out_and_backoff_on_the_real_clock(bench: Bench) -> None:
    durable, calls = bench.durable(clock=SystemClock()), list[int]()

    async def slow() -> int:
        calls.append(1)
        if len(calls) == 1:
            await asyncio.sleep(60)
        return len(calls)

    @durable.durable_task()
    async def task(input: Any, ctx: DurableContext) -> Any:
        return await ctx.aio_step(slow, retries=1, timeout=0.2, backoff=lambda attempt: 0.2)

    assert task.run() == 2


def test_a_result_has_its_type_live_and_replayed(bench: Bench) -> None:
    seen: list[Any] = []

    async def body(_: Any, ctx: DurableContext) -> None:
        seen.append(await ctx.aio_step(lambda: {"amount": 2}, result_type=Price))
        await ctx.aio_wait_for_event("end")

    story = Story(bench, body)
    story.asked(2).leave("close")
    story.push("end")
    story.result()
    assert seen == [Price(amount=2.0)] * 2


def test_a_crash_between_attempts_begins_with_the_first(bench: Bench) -> None:
    story = Story(bench, lambda _, ctx: then_end(ctx, ctx.aio_step(Flaky(99), retries=1, backoff=60)))
    wait_until(lambda: len(story.lines()) == 1)
    story.leave("crash")
    wait_until(lambda: len(story.lines()) == 2)
    settle(story.durable)
    bench.clock.advance(60)
    story.asked(2)
    assert [line.split(" failed")[0] for line in story.lines()] == [
        "step flaky: attempt 1 of 2",
        "step flaky: attempt 1 of 2",
        "step flaky: attempt 2 of 2",
    ]


@pytest.mark.parametrize("other", [functools.partial(max, 1, 3), functools.partial(min, 1, 2), "named"])
def test_another_function_argument_or_name_at_its_place_is_non_determinism(bench: Bench, other: Any) -> None:
    chosen: list[dict[str, Any]] = [{"fn": functools.partial(max, 1, 2)}]

    async def body(_: Any, ctx: DurableContext) -> None:
        await ctx.aio_step(**chosen[0])
        await ctx.aio_wait_for_event("end")

    story = Story(bench, body)
    story.asked(2)
    chosen[0] = {**chosen[0], "name": other} if isinstance(other, str) else {"fn": other}
    story.leave("close")
    wait_until(lambda: story.view.blocked_reason)
    assert "checkpoint 1 was recorded as step max" in str(story.view.blocked_reason)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"retries": -1}, ArgumentError, "retries=-1"),
        ({"retries": True}, ArgumentError, "retries=True"),
        ({"backoff": 0}, ArgumentError, "backoff=0"),
        ({"timeout": 0}, ArgumentError, "no time"),
        ({"timeout": "soon"}, DeclarationError, "timeout='soon' is no duration"),
    ],
)
def test_an_option_that_cannot_work_is_refused_and_nothing_asked(
    bench: Bench, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    async def body(_: Any, ctx: DurableContext) -> str:
        with pytest.raises(error) as caught:
            await ctx.aio_step(Flaky(0), **options)
        return str(caught.value)

    story = Story(bench, body)
    assert words in story.result()
    assert bench.asks(story.ref) == []


def test_a_step_may_ask_the_engine_for_nothing(bench: Bench, durable: Durable) -> None:
    @durable.durable_task()
    async def task(input: Any, ctx: DurableContext) -> Any:
        return await ctx.aio_step(lambda: ctx.aio_now(), retries=1)  # noqa: PLW0108

    with pytest.raises(TaskRunError, match="asked the engine for something"):
        task.run()


@pytest.mark.parametrize("how", LEAVINGS)
def test_a_step_that_loses_a_race_is_recorded_as_abandoned(bench: Bench, how: str) -> None:
    began: list[int] = []

    async def slow() -> None:
        began.append(1)
        await asyncio.Event().wait()

    async def body(_: Any, ctx: DurableContext) -> str:
        won = await ctx.aio_select(slow=ctx.aio_step(slow), event=ctx.aio_wait_for_event("win"))
        await ctx.aio_wait_for_event("end")
        return won.name

    story = Story(bench, body)
    wait_until(lambda: began)
    story.push("win")
    story.asked(3).leave(how)
    assert bench.rows("SELECT abandoned FROM v_checkpoints WHERE kind = 'step'") == [(1,)]
    story.push("end")
    assert story.result() == "event"
