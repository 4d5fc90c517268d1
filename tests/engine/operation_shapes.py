"""Task shapes of mailboxes, questions, steps, maps and selections, told as in `shapes`."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from durable_nb import DurableContext, SleepCondition
from tests.engine.shapes import Kin, shape


@shape(
    [
        ("", ["take m", "event x"]),
        ("go m", ["event m-then"]),
        ("go m", []),
        ("go m-then", ["take m", "event last"]),
        ("go x", []),
        ("go last", ["event end"]),
    ],
    [["m", "m"], "x"],
)
async def mailbox_beside_event(ctx: DurableContext, kin: Kin) -> Any:
    """The second event comes between two takes."""
    mailbox = ctx.aio_events("m")

    async def takes() -> list[Any]:
        first = await anext(mailbox)
        await ctx.aio_wait_for_event("m-then")
        both = [first, await anext(mailbox)]
        await ctx.aio_wait_for_event("last")
        return both

    return await asyncio.gather(takes(), ctx.aio_wait_for_event("x"))


@shape(
    [
        ("", ["take m", "event stop", "take n", "event stop"]),
        ("go n", ["take n", "event stop"]),
        ("go m", ["take m", "event stop"]),
        ("go m", ["take m", "event stop"]),
        ("go stop", ["event end"]),
    ],
    [["m", "m"], ["n"]],
)
async def mailbox_loops_in_task_group(ctx: DurableContext, kin: Kin) -> Any:
    async def loop(name: str) -> list[Any]:
        mailbox, taken = ctx.aio_events(name), list[Any]()
        while True:
            won = await ctx.aio_select(item=anext(mailbox), stop=ctx.aio_wait_for_event("stop"))
            if won.name == "stop":
                return taken
            taken.append(won.value)

    async with asyncio.TaskGroup() as group:
        loops = [group.create_task(loop(name)) for name in "mn"]
    return [task.result() for task in loops]


@shape(
    [
        ("", ["ask a", "ask b"]),
        ("say b", ["event b2"]),
        ("say a", ["event a2"]),
        ("go a2", []),
        ("go b2", ["event end"]),
    ],
    ["a", "b"],
)
async def questions_gathered(ctx: DurableContext, kin: Kin) -> Any:
    async def one(name: str) -> str:
        answer: str = await ctx.aio_ask(name, str)
        await ctx.aio_wait_for_event(f"{name}2")
        return answer

    return await asyncio.gather(one("a"), one("b"))


@shape(
    [
        ("", ["ask q", "sleep 5s"]),
        ("+5", ["ask again", "event late"]),
        ("say again", ["event after"]),
        ("go after", ["event end"]),
    ],
    ["nap", "answer", "again"],
)
async def question_in_races(ctx: DurableContext, kin: Kin) -> Any:
    first = await ctx.aio_select(answer=ctx.aio_ask("q", str), nap=SleepCondition(timedelta(seconds=5)))
    second = await ctx.aio_select(answer=ctx.aio_ask("again", str), late=ctx.aio_wait_for_event("late"))
    await ctx.aio_wait_for_event("after")
    return [first.name, second.name, second.value]


@shape(
    [
        ("", ["event a", "event b"]),
        ("go b", ["step work", "event b2"]),
        ("go a", ["step work", "step work", "event a2"]),
        ("go a2", []),
        ("go b2", ["event end"]),
    ],
    [2, 1],
)
async def steps_beside_events(ctx: DurableContext, kin: Kin) -> Any:
    async def one(name: str, number: int) -> int:
        await ctx.aio_wait_for_event(name)
        done = [await ctx.aio_step(lambda: 1, name="work", retries=1) for _ in range(number)]
        await ctx.aio_wait_for_event(f"{name}2")
        return sum(done)

    return await asyncio.gather(one("a", 2), one("b", 1))


@shape(
    [
        ("", ["gate", "gate", "event x"]),
        ("go b", ["gate"]),
        ("go x", ["event y"]),
        ("go a", ["gate"]),
        ("go y", []),
        ("go d", []),
        ("go c", ["event end"]),
    ],
    [["a", "b", "c", "d"], "y"],
)
async def map_beside_events(ctx: DurableContext, kin: Kin) -> Any:
    async def events() -> Any:
        await ctx.aio_wait_for_event("x")
        return await ctx.aio_wait_for_event("y")

    return await asyncio.gather(ctx.aio_map(kin.gate, "abcd", max_concurrency=2), events())


@shape(
    [("", ["gate", "gate", "gate"]), ("go c", []), ("go a", ["event after"]), ("go b", []), ("go after", ["event end"])],
    ["a", "c"],
)
async def map_of_enough(ctx: DurableContext, kin: Kin) -> Any:
    outputs = await ctx.aio_map(kin.gate, "abc", min_successful=2)
    await ctx.aio_wait_for_event("after")
    return outputs


@shape(
    [
        ("", ["event open", "event other"]),
        ("in s back", []),
        ("go open", ["now", "event back in scope s", "event then"]),
        ("go other", ["event other2"]),
        ("go then", []),
        ("go other2", ["event end"]),
    ],
    [["back", "then"], "other2"],
)
async def lookback_beside_events(ctx: DurableContext, kin: Kin) -> Any:
    async def looks() -> list[Any]:
        await ctx.aio_wait_for_event("open")
        back = await ctx.aio_wait_for_event("back", scope="s", lookback_window=timedelta(days=30))
        return [back, await ctx.aio_wait_for_event("then")]

    async def others() -> Any:
        await ctx.aio_wait_for_event("other")
        return await ctx.aio_wait_for_event("other2")

    return await asyncio.gather(looks(), others())
