"""What an error made a task give up is asked again by the next attempt; what a race gave up stays so in a replay."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from durable_nb import Durable, DurableContext, SleepCondition, UserEventCondition, or_
from tests.engine.helpers import Bench, reach, wait_until
from tests.engine.story import LEAVINGS, Story


class Slow:
    """Does not end the first time."""

    __qualname__ = "slow"

    def __init__(self) -> None:
        self.began = 0

    async def __call__(self) -> str:
        self.began += 1
        if self.began == 1:
            await asyncio.Event().wait()
        return "done"


KINDS: dict[str, Callable[[DurableContext, Slow], Any]] = {
    "event": lambda ctx, slow: ctx.aio_wait_for_event("e"),
    "group": lambda ctx, slow: ctx.aio_wait_for("e", or_(UserEventCondition("e"), SleepCondition(timedelta(days=9)))),
    "take": lambda ctx, slow: anext(ctx.aio_events("e")),
    "ask": lambda ctx, slow: ctx.aio_ask("e", str),
    "sleep": lambda ctx, slow: ctx.aio_sleep_for(timedelta(seconds=5)),
    "step": lambda ctx, slow: ctx.aio_step(slow.__call__),
    "memo": lambda ctx, slow: ctx.aio_memo(slow.__call__),
}


@pytest.mark.parametrize("how", ["", *LEAVINGS])
@pytest.mark.parametrize("fails", ["child", "code"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_failing_task_group_gave_up_is_asked_again_by_the_retry(bench: Bench, kind: str, fails: str, how: str) -> None:
    slow, calls = Slow(), list[int]()

    def declare(durable: Durable) -> None:
        @durable.task()
        async def once(input: Any, ctx: Any) -> int:
            calls.append(1)
            if len(calls) == 1:
                raise OSError("once")
            return len(calls)

    async def other(ctx: DurableContext) -> Any:
        if fails == "child":
            return await ctx._engine.registry["once"].aio_run()
        await ctx.aio_wait_for_event("x")
        if ctx.retry_count == 0:
            raise OSError("once")
        return 2

    async def body(_: Any, ctx: DurableContext) -> Any:
        async with asyncio.TaskGroup() as group:
            given_up = group.create_task(KINDS[kind](ctx, slow))
            failing = group.create_task(other(ctx))
        given_up.result()
        return failing.result()

    story = Story(bench, body, declare=declare, retries=1)
    if fails == "code":
        wait_until(lambda: len(bench.asks(story.ref)) == (1 if kind in ("step", "memo") else 2))
        story.push("x")
    reach(story.durable, story.ref, lambda run: run.retry_count == 1)
    if kind not in ("step", "memo"):
        wait_until(lambda: bench.rows("SELECT 1 FROM checkpoint WHERE branch = 2 AND node = 1 AND kind = ?", _kind(kind)))
        ended = "SELECT 1 FROM checkpoint WHERE branch = 2 AND node = 2 AND seq IS NOT NULL"
        wait_until(lambda: fails == "code" or bench.rows(ended))
        story.leave(how)
    if kind in ("event", "take", "group"):
        story.push("e", "e")
    elif kind == "ask":
        story.durable.inbox.answer(f"{story.id}/2/1", "e")
    elif kind == "sleep":
        bench.clock.advance(10)
    assert story.result() == 2
    assert slow.began == (2 if kind in ("step", "memo") else 0)


def _kind(name: str) -> str:
    return "wait" if name == "group" else name


def test_a_child_that_was_given_up_is_not_spawned_again(bench: Bench) -> None:
    began: list[int] = []

    def declare(durable: Durable) -> None:
        @durable.durable_task()
        async def child(input: Any, ctx: DurableContext) -> Any:
            if ctx.invocation_count == 1:
                began.append(1)
            return await ctx.aio_wait_for_event("child")

    async def body(_: Any, ctx: DurableContext) -> Any:
        async with asyncio.TaskGroup() as group:
            child = group.create_task(ctx._engine.registry["child"].aio_run())
            await ctx.aio_wait_for_event("x")
            if ctx.retry_count == 0:
                raise OSError("once")
        return child.result()

    story = Story(bench, body, declare=declare, retries=1)
    story.asked(2)
    story.push("x")
    reach(story.durable, story.ref, lambda run: run.retry_count == 1)
    story.push("child", 7)
    assert story.result() == 7
    assert began == [1]


def test_an_event_that_came_just_before_it_was_given_up_is_not_lost(bench: Bench) -> None:
    """It satisfied the wait, and was not delivered when the group failed: the retry is given it."""

    async def body(_: Any, ctx: DurableContext) -> Any:
        async with asyncio.TaskGroup() as group:
            event = group.create_task(ctx.aio_wait_for_event("e"))
            await ctx.aio_wait_for_event("x")
            if ctx.retry_count == 0:
                raise OSError("once")
        return event.result()

    story = Story(bench, body, retries=1)
    story.asked(2).leave("evict")
    story.durable.close()
    without_task = bench.durable()
    without_task.event.push("x")
    without_task.event.push("e", "kept")
    without_task.close()
    story.leave("")
    story.durable = story._engine()
    story.durable.open()
    assert story.result() == "kept"


def test_what_a_divergence_cancelled_is_waited_for_when_the_run_is_taken_up(bench: Bench) -> None:
    asks = ["a"]

    async def body(_: Any, ctx: DurableContext) -> Any:
        async with asyncio.TaskGroup() as group:
            event = group.create_task(ctx.aio_wait_for_event("e"))
            group.create_task(ctx.aio_wait_for_event(asks[0]))
        return event.result()

    story = Story(bench, body)
    story.asked(2)
    asks[0] = "b"
    story.leave("close")
    reach(story.durable, story.ref, lambda run: run.blocked_reason)
    assert bench.open_waits(story.ref) == ["e", "a"]
    asks[0] = "a"
    story.durable.runs.retake(story.id)
    story.push("a")
    story.push("e", 1)
    assert story.result() == 1
