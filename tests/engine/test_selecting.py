"""Selecting: the first of several, live and replayed; the others are given up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from durable_nb import Context, Durable, DurableContext, SleepCondition, TaskRunError, UserEventCondition, or_
from durable_nb.errors import ArgumentError
from durable_nb.tasks.task import BulkItem
from tests.engine.helpers import Bench, reach, wait_until
from tests.engine.story import LEAVINGS, Story


def declare(durable: Durable) -> None:
    @durable.durable_task()
    async def gate(input: str, ctx: DurableContext) -> str:
        await ctx.aio_wait_for_event(input)
        return input

    @durable.task()
    async def fails(input: Any, ctx: Context) -> None:
        raise OSError("broken")


@pytest.mark.parametrize("how", ["", *LEAVINGS])
@pytest.mark.parametrize(
    ("action", "won"),
    [
        ("paid", ["event", "paid"]),
        ("go", ["child", "go"]),
        ("m", ["mail", "m"]),
        ("either", ["group", {"CREATE": {"either": ["either"]}}]),
        ("cond", ["condition", "cond"]),
        (60, ["sleep", "1m"]),
        (30, ["nap", "30s"]),
    ],
)
def test_the_first_to_complete_is_given_and_the_others_are_abandoned(bench: Bench, how: str, action: Any, won: Any) -> None:
    async def body(_: Any, ctx: DurableContext) -> Any:
        name, value = await ctx.aio_select(
            event=ctx.aio_wait_for_event("paid"),
            child=ctx._engine.registry["gate"].aio_run("go"),
            mail=ctx.aio_events("m"),
            group=or_(UserEventCondition("either"), SleepCondition(timedelta(hours=1))),
            condition=UserEventCondition("cond", "input == 'cond'"),
            sleep=ctx.aio_sleep_for(timedelta(seconds=60)),
            nap=SleepCondition(timedelta(seconds=30 if action == 30 else 90)),
        )
        await ctx.aio_wait_for_event("end")
        if name in ("sleep", "nap"):
            value = {60: "1m", 30: "30s"}[value.duration.total_seconds()]
        return [name, value]

    story = Story(bench, body, declare=declare)
    story.asked(7)
    reach(story.durable, story.durable.runs.get_run_ref("#2"), lambda run: run.status == "RUNNING")
    bench.asked(story.durable.runs.get_run_ref("#2"), 1)
    asks = [ask for _, _, ask in bench.asks(story.ref)]
    assert [ask.split()[0] for ask in asks] == ["event", "gate", "take", "wait", "event", "sleep", "sleep"]
    story.leave(how)
    if isinstance(action, int):
        bench.clock.advance(action)
    else:
        story.push(action, action)
    story.asked(8).leave(how)
    assert bench.rows("SELECT count(*) FROM v_checkpoints WHERE run_id = ? AND abandoned", story.id) == [(6,)]
    assert bench.open_waits(story.ref) == ["end"]
    story.push("end")
    assert story.result() == won


@pytest.mark.parametrize("how", ["", *LEAVINGS])
def test_of_two_that_are_complete_at_once_the_one_recorded_first_wins(bench: Bench, how: str) -> None:
    """Both sleeps end in one transaction; the shorter one is the first in it, though asked second."""

    async def body(_: Any, ctx: DurableContext) -> Any:
        long, short = timedelta(seconds=9), timedelta(seconds=5)
        won = await ctx.aio_select(long=ctx.aio_sleep_for(long), short=ctx.aio_sleep_for(short))
        await ctx.aio_wait_for_event("end")
        return won.name

    story = Story(bench, body).asked(2)
    bench.clock.advance(20)
    story.asked(3).leave(how)
    story.push("end")
    assert story.result() == "short"


def test_what_the_first_raised_is_raised_after_the_others_were_given_up(bench: Bench) -> None:
    async def body(_: Any, ctx: DurableContext) -> Any:
        try:
            await ctx.aio_select(wait=ctx.aio_wait_for_event("x"), child=ctx._engine.registry["fails"].aio_run())
        except TaskRunError as error:
            return error.exc
        raise AssertionError

    story = Story(bench, body, declare=declare)
    assert story.result() == "broken"
    assert bench.rows("SELECT kind, abandoned FROM v_checkpoints WHERE task = 'story' ORDER BY node") == [
        ("event", 1),
        ("child", 0),
    ]


def test_a_ref_and_a_task_may_be_selected(bench: Bench) -> None:
    async def body(_: Any, ctx: DurableContext) -> Any:
        ref = await ctx._engine.registry["gate"].aio_run("go", wait_for_result=False)
        won = await ctx.aio_select(task=asyncio.create_task(ctx.aio_wait_for_event("never")), ref=ref)
        return list(won)

    story = Story(bench, body, declare=declare)
    story.asked(3)
    story.push("go")
    assert story.result() == ["ref", "go"]


def test_a_loser_tidies_up_before_the_winner_is_given(bench: Bench) -> None:
    tidied: list[str] = []

    async def loser(ctx: DurableContext) -> None:
        try:
            await ctx.aio_wait_for_event("never")
        finally:
            await ctx.aio_now()
            tidied.append("tidied")

    async def body(_: Any, ctx: DurableContext) -> Any:
        won = await ctx.aio_select(loser=loser(ctx), winner=ctx.aio_wait_for_event("win"))
        return [won.name, *tidied]

    story = Story(bench, body).asked(2)
    story.push("win")
    assert story.result() == ["winner", "tidied"]


def test_cancelling_a_select_gives_up_all_of_it(bench: Bench) -> None:
    async def body(_: Any, ctx: DurableContext) -> Any:
        inner = ctx.aio_select(a=ctx.aio_wait_for_event("a"), b=ctx.aio_wait_for_event("b"))
        won = await ctx.aio_select(inner=inner, win=ctx.aio_wait_for_event("win"))
        await ctx.aio_wait_for_event("end")
        return won.name

    story = Story(bench, body).asked(3)
    story.push("win")
    story.asked(4)
    assert bench.open_waits(story.ref) == ["end"]
    story.push("end")
    assert story.result() == "win"


@pytest.mark.parametrize(
    ("named", "words"), [({}, "needs something to wait for"), ({"a": 7}, r"aio_select\(a=int\): give a call that is not awaited")]
)
def test_what_cannot_be_waited_for_is_refused(bench: Bench, named: dict[str, Any], words: str) -> None:
    async def body(_: Any, ctx: DurableContext) -> str:
        with pytest.raises(ArgumentError, match=words):
            await ctx.aio_select(**named, **({"w": ctx.aio_wait_for_event("x")} if named else {}))
        return "refused"

    story = Story(bench, body)
    assert story.result() == "refused"
    assert bench.asks(story.ref) == []


async def spawned(ctx: DurableContext, name: str, **options: Any) -> Any:
    return await ctx._engine.registry["gate"].aio_run(name, **options)


async def in_a_group(ctx: DurableContext, name: str) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(spawned(ctx, name))


LOSERS: dict[str, tuple[Callable[[DurableContext], Any], str]] = {
    "a child": (lambda ctx: spawned(ctx, "x"), "CANCELLED"),
    "many": (lambda ctx: ctx._engine.registry["gate"].aio_run_many([BulkItem(input="x")]), "CANCELLED"),
    "a map": (lambda ctx: ctx.aio_map(ctx._engine.registry["gate"], ["x"]), "CANCELLED"),
    "a gather": (lambda ctx: asyncio.gather(spawned(ctx, "x"), spawned(ctx, "y")), "CANCELLED"),
    "a group": (lambda ctx: in_a_group(ctx, "x"), "CANCELLED"),
    "a select": (lambda ctx: ctx.aio_select(one=spawned(ctx, "x"), two=spawned(ctx, "y")), "CANCELLED"),
    "a child that is kept": (lambda ctx: spawned(ctx, "x", cancel_with_parent=False), "RUNNING"),
    "a child that is waited for elsewhere": (lambda ctx: spawned(ctx, "x", child_key="x"), "RUNNING"),
}


@pytest.mark.parametrize("how", ["", "close", "crash"])
@pytest.mark.parametrize("loser", LOSERS)
def test_children_that_lost_are_cancelled_unless_somebody_needs_them(bench: Bench, loser: str, how: str) -> None:
    lost, expected = LOSERS[loser]

    async def body(_: Any, ctx: DurableContext) -> Any:
        other = asyncio.create_task(spawned(ctx, "x", child_key="x")) if "elsewhere" in loser else None
        won = await ctx.aio_select(lost=lost(ctx), win=ctx.aio_wait_for_event("win"))
        await ctx.aio_wait_for_event("end")
        return won.name, await other if other else None

    story = Story(bench, body, declare=declare)
    begun = "SELECT count(*) FROM v_waits WHERE task = 'gate'"
    wait_until(lambda: bench.rows(begun)[0][0] == 1 + (loser in ("a gather", "a select")), what="the wait of the children")
    story.push("win")
    ended = "SELECT DISTINCT status FROM v_runs WHERE task = 'gate'"
    wait_until(lambda: bench.open_waits(story.ref) == ["end"], what="the last wait")
    wait_until(lambda: bench.rows(ended) == [(expected,)], what=f"the children being {expected}")
    story.leave(how)
    story.push("end")
    if expected == "RUNNING":
        story.push("x")
    assert story.result() == ["win", "x" if "elsewhere" in loser else None]


@pytest.mark.parametrize("how", ["", *LEAVINGS])
def test_a_retry_waits_for_the_children_that_a_failed_select_gave_up(bench: Bench, how: str) -> None:
    """They were not cancelled: what they have done so far is not lost."""

    async def body(_: Any, ctx: DurableContext) -> Any:
        failing = ctx._engine.registry["fails" if ctx.retry_count == 0 else "gate"]
        won = await ctx.aio_select(child=spawned(ctx, "x"), fails=failing.aio_run("never"))
        return won.value

    story = Story(bench, body, declare=declare, retries=1)
    reach(story.durable, story.ref, lambda run: run.retry_count == 1)
    story.asked(3).leave(how)
    story.push("x")
    assert story.result() == "x"
    ended = [("COMPLETED",), ("CANCELLED",)]
    wait_until(lambda: bench.rows("SELECT status FROM v_runs WHERE task = 'gate' ORDER BY number") == ended)


def test_a_retry_does_not_spawn_again_what_a_select_had_cancelled(bench: Bench) -> None:
    async def body(_: Any, ctx: DurableContext) -> Any:
        won = await ctx.aio_select(child=spawned(ctx, "x"), win=ctx.aio_wait_for_event("win"))
        if ctx.retry_count == 0:
            raise OSError("once")
        return won.name

    story = Story(bench, body, declare=declare, retries=1)
    wait_until(lambda: bench.rows("SELECT 1 FROM v_waits WHERE task = 'gate'"))
    story.push("win")
    assert story.result() == "win"
    assert bench.count("run") - bench.rows("SELECT count(*) FROM run WHERE task = 'settle'")[0][0] == 2
