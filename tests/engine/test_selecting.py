"""Selecting: the first of several, live and replayed; the others are given up."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from durable_nb import Context, Durable, DurableContext, SleepCondition, TaskRunError, UserEventCondition, or_
from durable_nb.errors import ArgumentError
from tests.engine.helpers import Bench, reach
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
