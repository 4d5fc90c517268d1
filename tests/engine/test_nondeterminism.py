"""A task that changed under its run: the run is parked with its reason, never failed, and goes on when the right code is back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from durable_nb import Context, Durable, DurableContext, NonDeterminismError, SleepCondition, UserEventCondition, or_
from tests.engine.helpers import Bench, reach, settle, view, wait_until

Body = Callable[[DurableContext, Durable], Any]
MINUTE = timedelta(minutes=1)


def engine(bench: Bench, body: Body) -> Durable:
    durable = bench.durable()

    @durable.task()
    async def child(input: Any, ctx: Context) -> Any:
        return input

    @durable.task()
    async def other(input: Any, ctx: Context) -> Any:
        return input

    @durable.durable_task(retries=2)
    async def program(input: Any, ctx: DurableContext) -> Any:
        return await body(ctx, durable)

    return durable


def stop_before_end(bench: Bench, body: Body) -> Any:
    """Run a body until it waits for the event `end`, and close its engine."""

    async def ending(ctx: DurableContext, durable: Durable) -> Any:
        result = await body(ctx, durable)
        await ctx.aio_wait_for_event("end")
        return result

    durable = engine(bench, ending)
    ref = durable.tasks["program"].run(wait_for_result=False)
    for _ in range(3):
        wait_until(lambda: bench.open_waits(ref))
        if bench.open_waits(ref) == ["end"]:
            break
        bench.clock.advance(MINUTE)
        durable.event.push("go", {"n": 2}, scope="s")
        settle(durable)
    wait_until(lambda: bench.open_waits(ref) == ["end"])
    durable.close()
    return ref


async def sleeps(ctx: DurableContext, durable: Durable) -> Any:
    await ctx.aio_sleep_for(MINUTE)


async def sleeps_longer(ctx: DurableContext, durable: Durable) -> Any:
    await ctx.aio_sleep_for(2 * MINUTE)


async def spawns(ctx: DurableContext, durable: Durable) -> Any:
    await durable.tasks["child"].aio_run({"a": 1})


async def spawns_with_another_input(ctx: DurableContext, durable: Durable) -> Any:
    await durable.tasks["child"].aio_run({"a": 2})


async def spawns_another(ctx: DurableContext, durable: Durable) -> Any:
    await durable.tasks["other"].aio_run({"a": 1})


async def waits(ctx: DurableContext, durable: Durable) -> Any:
    await ctx.aio_wait_for_event("go", "input.n > 1", scope="s")


async def waits_for_another_key(ctx: DurableContext, durable: Durable) -> Any:
    await ctx.aio_wait_for_event("come", "input.n > 1", scope="s")


async def waits_with_another_filter(ctx: DurableContext, durable: Durable) -> Any:
    await ctx.aio_wait_for_event("go", "input.n > 0", scope="s")


async def waits_without_scope(ctx: DurableContext, durable: Durable) -> Any:
    await ctx.aio_wait_for_event("go", "input.n > 1")


async def waits_for_either(ctx: DurableContext, durable: Durable) -> Any:
    await ctx.aio_wait_for("signal", or_(SleepCondition(MINUTE), UserEventCondition("go")))


async def waits_for_both(ctx: DurableContext, durable: Durable) -> Any:
    await ctx.aio_wait_for("signal", SleepCondition(MINUTE), UserEventCondition("go"))


def first(number: int) -> int:
    return number


def second(number: int) -> int:
    return number


async def notes(ctx: DurableContext, durable: Durable) -> Any:
    await ctx.aio_memo(first, int, 1)


async def notes_another_argument(ctx: DurableContext, durable: Durable) -> Any:
    await ctx.aio_memo(first, int, 2)


async def notes_with_another_function(ctx: DurableContext, durable: Durable) -> Any:
    await ctx.aio_memo(second, int, 1)


async def pushes(ctx: DurableContext, durable: Durable) -> Any:
    await durable.event.aio_push("news", 1)


async def pushes_something_else(ctx: DurableContext, durable: Durable) -> Any:
    await durable.event.aio_push("news", 2)


async def nothing(ctx: DurableContext, durable: Durable) -> Any:
    return None


async def spawns_then_sleeps(ctx: DurableContext, durable: Durable) -> Any:
    await spawns(ctx, durable)
    await sleeps(ctx, durable)


async def one_more_before(ctx: DurableContext, durable: Durable) -> Any:
    await ctx.aio_now()
    await spawns_then_sleeps(ctx, durable)


async def in_the_other_order(ctx: DurableContext, durable: Durable) -> Any:
    await sleeps(ctx, durable)
    await spawns(ctx, durable)


async def swallows(ctx: DurableContext, durable: Durable) -> Any:
    try:
        await sleeps(ctx, durable)
    except Exception:
        return "swallowed"


async def asks_again(ctx: DurableContext, durable: Durable) -> Any:
    errors = 0
    for _ in range(3):
        try:
            await sleeps(ctx, durable)
        except NonDeterminismError:
            errors += 1
    if errors == 3:
        await sleeps(ctx, durable)
    raise AssertionError("a divergence was forgotten")


async def mends_itself(ctx: DurableContext, durable: Durable) -> Any:
    with contextlib.suppress(NonDeterminismError):
        await sleeps(ctx, durable)
    await spawns(ctx, durable)


CHANGES: list[tuple[Body, Body]] = [
    (sleeps, spawns),
    (sleeps, sleeps_longer),
    (spawns, spawns_with_another_input),
    (spawns, spawns_another),
    (waits, waits_for_another_key),
    (waits, waits_with_another_filter),
    (waits, waits_without_scope),
    (waits, waits_for_either),
    (waits_for_both, waits_for_either),
    (notes, notes_another_argument),
    (notes, notes_with_another_function),
    (pushes, pushes_something_else),
    (pushes, waits),
    (sleeps, nothing),
    (spawns_then_sleeps, sleeps),
    (spawns_then_sleeps, spawns),
    (spawns_then_sleeps, one_more_before),
    (spawns_then_sleeps, in_the_other_order),
    (spawns, swallows),
    (spawns, asks_again),
    (spawns, mends_itself),
]


SHORTER = [(sleeps, nothing), (spawns_then_sleeps, spawns)]  # what lies before agrees: that less is asked has to tell it


@pytest.mark.parametrize(("before", "after"), CHANGES, ids=[f"{a.__name__}-{b.__name__}" for a, b in CHANGES])
def test_a_changed_task_is_parked_and_taken_up_again(bench: Bench, before: Body, after: Body) -> None:
    ref = stop_before_end(bench, before)
    asks = bench.asks(ref)

    async def after_and_end(ctx: DurableContext, durable: Durable) -> Any:
        await after(ctx, durable)
        await ctx.aio_wait_for_event("end")

    is_shorter = (before, after) in SHORTER
    changed = engine(bench, after if is_shorter else after_and_end)
    changed.open()
    run = reach(changed, ref, lambda run: run.blocked_reason or run.is_ended or bench.asks(ref) != asks, "a parked run")
    assert (run.status, run.retry_count) == ("RUNNING", 0)
    assert run.blocked_reason is not None and "checkpoint" in run.blocked_reason
    assert ("the function returned" in run.blocked_reason) == is_shorter
    assert bench.asks(ref) == asks
    assert asyncio.run(changed.runs.aio_retake(ref.workflow_run_id)) is True  # the code is still wrong
    run = reach(changed, ref, lambda run: run.blocked_reason or run.is_ended, "a run parked again")
    assert run.status == "RUNNING"
    changed.close()

    async def right(ctx: DurableContext, durable: Durable) -> str:
        await before(ctx, durable)
        await ctx.aio_wait_for_event("end")
        return "done"

    restored = engine(bench, right)
    asyncio.run(restored.runs.aio_retake(ref.workflow_run_id))
    restored.event.push("end")
    assert restored.runs.get_run_ref(ref.workflow_run_id).result() == "done"
    assert view(restored, ref).blocked_reason is None
    assert bench.asks(ref) == asks


def test_an_outcome_that_nobody_asks_for_any_more_parks_the_run_that_would_wait_for_ever(bench: Bench) -> None:
    """The second of two was delivered first; code that asks for the second after the first has come can never get there."""

    async def both(ctx: DurableContext, durable: Durable) -> Any:
        await asyncio.gather(ctx.aio_wait_for_event("a"), ctx.aio_wait_for_event("b"))
        await ctx.aio_wait_for_event("end")

    async def one_by_one(ctx: DurableContext, durable: Durable) -> Any:
        for key in ("a", "b", "end"):
            await ctx.aio_wait_for_event(key)

    durable = engine(bench, both)
    ref = durable.tasks["program"].run(wait_for_result=False)
    bench.asked(ref, 2)
    for key in ("b", "a"):
        durable.event.push(key)
    wait_until(lambda: bench.open_waits(ref) == ["end"])
    durable.close()
    changed = engine(bench, one_by_one)
    changed.open()
    run = reach(changed, ref, lambda run: run.blocked_reason or run.is_ended, "a parked run")
    assert "event b" in (run.blocked_reason or "") and "it waits for earlier ones" in (run.blocked_reason or "")
    assert (run.status, run.retry_count) == ("RUNNING", 0)


def test_labels_and_signal_keys_may_change(bench: Bench) -> None:
    def body(label: str) -> Body:
        async def labelled(ctx: DurableContext, durable: Durable) -> Any:
            await ctx.aio_sleep_for(MINUTE, label)
            await ctx.aio_wait_for(label, SleepCondition(MINUTE), label=label)

        return labelled

    ref = stop_before_end(bench, body("old"))

    async def ending(ctx: DurableContext, durable: Durable) -> str:
        await body("new")(ctx, durable)
        await ctx.aio_wait_for_event("end")
        return "done"

    durable = engine(bench, ending)
    durable.open()
    durable.event.push("end")
    run = reach(durable, ref, lambda run: run.blocked_reason or run.is_ended)
    assert (run.blocked_reason, run.output) == (None, '"done"')


def test_more_asks_after_the_recorded_ones_are_no_divergence(bench: Bench) -> None:
    ref = stop_before_end(bench, spawns)

    async def longer(ctx: DurableContext, durable: Durable) -> str:
        await spawns(ctx, durable)
        await ctx.aio_wait_for_event("end")
        await spawns_another(ctx, durable)
        return "longer"

    durable = engine(bench, longer)
    durable.event.push("end")
    assert durable.runs.get_run_ref(ref.workflow_run_id).result() == "longer"


def test_an_exception_in_replay_stays_that_exception(bench: Bench) -> None:
    from durable_nb import NonRetryableException, TaskRunError

    ref = stop_before_end(bench, spawns)

    async def broken(ctx: DurableContext, durable: Durable) -> str:
        raise NonRetryableException("a typo")

    durable = engine(bench, broken)
    with pytest.raises(TaskRunError, match="a typo"):
        durable.runs.get_run_ref(ref.workflow_run_id).result()


def test_a_run_that_is_not_blocked_is_not_retaken(bench: Bench) -> None:
    durable = engine(bench, waits)
    ref = durable.tasks["program"].run(wait_for_result=False)
    bench.asked(ref, 1)
    assert asyncio.run(durable.runs.aio_retake(ref.workflow_run_id)) is False
    assert view(durable, ref).invocation_count == 1


@pytest.mark.parametrize("as_model", [False, True])
def test_a_default_that_the_childs_model_has_got_is_no_divergence(bench: Bench, as_model: bool) -> None:
    """What was asked is what was passed: the model's defaults are no part of it."""

    class Order(BaseModel):
        id: int

    class OrderWithSize(BaseModel):
        id: int
        size: int = 3

    def serve(model: type[BaseModel]) -> Durable:
        durable = bench.durable()

        @durable.task(input_validator=model)
        async def ship(input: Any, ctx: Context) -> int:
            return int(input.id)

        @durable.durable_task()
        async def story(input: Any, ctx: DurableContext) -> Any:
            shipped = await ship.aio_run(model.model_validate({"id": 7}) if as_model else {"id": 7})
            await ctx.aio_wait_for_event("end")
            return shipped

        return durable.open()

    first = serve(Order)
    ref = first.tasks["story"].run(wait_for_result=False)
    bench.asked(ref, 2)
    first.close()
    durable = serve(OrderWithSize)
    durable.event.push("end")
    run = reach(durable, ref, lambda run: run.blocked_reason or run.is_ended)
    assert (run.blocked_reason, run.output) == (None, "7")
