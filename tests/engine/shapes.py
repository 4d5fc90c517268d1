"""Task shapes, each with the order in which it must ask: what comes of every step, told by hand from the contract.

A shape is a body and its script. A step is an action and the asks that follow, in order. Actions: `go x` pushes the event x,
`in s x` the event x in scope s, `say q` answers the question q, `+5` moves the clock by 5 s. Every body's last ask is the event
`end`, so that a finished body can still be replayed.
An ask is named by words that its text in the log holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from durable_nb import Durable, DurableContext, SleepCondition, TaskRunError, UserEventCondition, or_
from durable_nb.tasks.task import Task

Body = Callable[[DurableContext, "Kin"], Awaitable[Any]]
Step = tuple[str, list[str]]


@dataclass(frozen=True)
class Kin:
    """The tasks that a body may spawn: `gate` ends at the event of its input, `fails` fails at it, `quick` ends by itself."""

    gate: Task[Any]
    fails: Task[Any]
    quick: Task[Any]


@dataclass(frozen=True)
class Shape:
    """A body and its script."""

    body: Body
    script: list[Step]
    result: Any

    @property
    def asks(self) -> list[str]:
        """Every ask, in order."""
        return [ask for _, asks in self.script for ask in asks]


SHAPES: dict[str, Shape] = {}


def act(durable: Durable, action: str, *, advance: Callable[[float], object]) -> None:
    """Do one action: push an event with its key as payload, answer a question with its text, or move the clock."""
    if action.startswith("go "):
        durable.event.push(action[3:], action[3:])
    elif action.startswith("in "):
        _, scope, key = action.split()
        durable.event.push(key, key, scope=scope)
    elif action.startswith("say "):
        [item] = [item for item in durable.inbox.list() if item.question == action[4:]]
        durable.inbox.answer(item.id, item.question)
    elif action:
        advance(float(action))


def shape(script: list[Step], result: Any) -> Callable[[Body], Body]:
    def keep(body: Body) -> Body:
        SHAPES[getattr(body, "__name__", "")] = Shape(body, script, result)
        return body

    return keep


def named(name: str) -> str:
    """Give a memo's value."""
    return f"memo {name}"


async def pair(ctx: DurableContext, name: str) -> str:
    """Ask twice, one after the other."""
    await ctx.aio_wait_for_event(f"{name}1")
    await ctx.aio_wait_for_event(f"{name}2")
    return name


@shape([("", ["event a"]), ("go a", ["sleep 5s"]), ("+5", ["gate"]), ("go c", ["named", "event end"])], ["a", "c", "memo m"])
async def sequential(ctx: DurableContext, kin: Kin) -> Any:
    a = await ctx.aio_wait_for_event("a")
    await ctx.aio_sleep_for(timedelta(seconds=5))
    return [a, await kin.gate.aio_run("c"), await ctx.aio_memo(named, str, "m")]


@shape(
    [("", ["event a1", "event b1"]), ("go b1", ["event b2"]), ("go a1", ["event a2"]), ("go b2", []), ("go a2", ["event end"])],
    ["a", "b"],
)
async def gather(ctx: DurableContext, kin: Kin) -> Any:
    return await asyncio.gather(pair(ctx, "a"), pair(ctx, "b"))


@shape([("", ["sleep 5s", "sleep 5s"]), ("+5", ["event a", "event b"]), ("go b", []), ("go a", ["event end"])], ["a", "b"])
async def gather_due_together(ctx: DurableContext, kin: Kin) -> Any:
    """Both sleeps end in one transaction: still one after the other, in the order asked."""

    async def one(name: str) -> Any:
        await ctx.aio_sleep_for(timedelta(seconds=5))
        return await ctx.aio_wait_for_event(name)

    return await asyncio.gather(one("a"), one("b"))


@shape(
    [
        ("", ["event a1", "event b1", "event c1", "event d1"]),
        ("go d1", ["event d2"]),
        ("go b1", ["event b2"]),
        ("go d2", []),
        ("go c1", ["event c2"]),
        ("go c2", ["event cd"]),
        ("go a1", ["event a2"]),
        ("go b2", []),
        ("go a2", []),
        ("go cd", ["event end"]),
    ],
    [["a", "b"], ["c", "d", "cd"]],
)
async def nested_gather(ctx: DurableContext, kin: Kin) -> Any:
    async def right() -> Any:
        both = await asyncio.gather(pair(ctx, "c"), pair(ctx, "d"))
        return [*both, await ctx.aio_wait_for_event("cd")]

    return await asyncio.gather(asyncio.gather(pair(ctx, "a"), pair(ctx, "b")), right())


@shape(
    [("", ["event a1", "gate"]), ("go x", ["event late"]), ("go a1", ["event a2"]), ("go late", []), ("go a2", ["event end"])],
    ["a", "x", "late"],
)
async def task_group(ctx: DurableContext, kin: Kin) -> Any:
    async with asyncio.TaskGroup() as group:
        late: list[asyncio.Task[Any]] = []

        async def spawner() -> Any:
            result = await kin.gate.aio_run("x")
            late.append(group.create_task(ctx.aio_wait_for_event("late")))
            return result

        first, second = group.create_task(pair(ctx, "a")), group.create_task(spawner())
    return [first.result(), second.result(), late[0].result()]


@shape(
    [("", ["event a", "event b", "event c"]), ("go b", ["event after"]), ("go c", []), ("go after", []), ("go a", ["event end"])],
    ["b", "after", "a", "c"],
)
async def wait_first_completed(ctx: DurableContext, kin: Kin) -> Any:
    tasks = [asyncio.create_task(ctx.aio_wait_for_event(name)) for name in "abc"]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    after = await ctx.aio_wait_for_event("after")
    await asyncio.wait(pending)
    return [done.pop().result(), after, tasks[0].result(), tasks[2].result()]


@shape(
    [
        ("", ["gate", "gate", "gate"]),
        ("go c", ["event then-c"]),
        ("go then-c", []),
        ("go a", ["event then-a"]),
        ("go then-a", []),
        ("go b", ["event then-b"]),
        ("go then-b", ["event end"]),
    ],
    ["c", "a", "b"],
)
async def as_completed(ctx: DurableContext, kin: Kin) -> Any:
    order = []
    for next_done in asyncio.as_completed([asyncio.create_task(kin.gate.aio_run(name)) for name in "abc"]):
        name = await next_done
        order.append(name)
        await ctx.aio_wait_for_event(f"then-{name}")
    return order


@shape(
    [("", ["event win", "event lose"]), ("go win", ["event after"]), ("go lose", []), ("go after", ["event end"])],
    ["win", "cancelled", "after"],
)
async def race(ctx: DurableContext, kin: Kin) -> Any:
    winner, loser = (asyncio.create_task(ctx.aio_wait_for_event(name)) for name in ("win", "lose"))
    await asyncio.wait([winner, loser], return_when=asyncio.FIRST_COMPLETED)
    loser.cancel()
    with suppress(asyncio.CancelledError):
        await loser
    return [winner.result(), "cancelled" if loser.cancelled() else "there", await ctx.aio_wait_for_event("after")]


@shape(
    [
        ("", ["event a", "event b"]),
        ("go b", ["event c"]),
        ("go a", ["event d"]),
        ("go d", ["event e"]),
        ("go c", []),
        ("go e", ["event end"]),
    ],
    ["a", "b", "c", "d", "e"],
)
async def semaphore(ctx: DurableContext, kin: Kin) -> Any:
    limit = asyncio.Semaphore(2)

    async def one(name: str) -> Any:
        async with limit:
            return await ctx.aio_wait_for_event(name)

    return await asyncio.gather(*(one(name) for name in "abcde"))


@shape(
    [("", ["event a", "event b"]), ("go b", ["event c"]), ("go c", ["event d"]), ("go a", []), ("go d", ["event end"])],
    [["0", "a"], ["1", "b"], ["1", "c"], ["1", "d"]],
)
async def queue_workers(ctx: DurableContext, kin: Kin) -> Any:
    queue: asyncio.Queue[str] = asyncio.Queue()
    for name in "abcd":
        queue.put_nowait(name)
    done: list[list[str]] = []

    async def worker(number: int) -> None:
        while True:
            name = await queue.get()
            done.append([str(number), await ctx.aio_wait_for_event(name)])
            queue.task_done()

    workers = [asyncio.create_task(worker(number)) for number in range(2)]
    await queue.join()
    for task in workers:
        task.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    return sorted(done)


@shape(
    [("", ["event inner", "event out"]), ("go out", ["event after"]), ("go after", []), ("go inner", ["event end"])],
    ["out", "after", "inner"],
)
async def shielded(ctx: DurableContext, kin: Kin) -> Any:
    inner = asyncio.create_task(ctx.aio_wait_for_event("inner"))

    async def outer() -> Any:
        return await asyncio.shield(inner)

    waiter = asyncio.create_task(outer())
    await asyncio.sleep(0)
    out = await ctx.aio_wait_for_event("out")
    waiter.cancel()
    after = await ctx.aio_wait_for_event("after")
    return [out, after, await inner]


@shape([("", ["event a"]), ("go a", ["event c", "event b"]), ("go b", []), ("go c", ["event end"])], ["b", "c"])
async def signalled(ctx: DurableContext, kin: Kin) -> Any:
    """Coroutines wait for each other with an `asyncio.Event`; the setter goes on first."""
    ready = asyncio.Event()

    async def waits() -> Any:
        await ready.wait()
        return await ctx.aio_wait_for_event("b")

    async def sets() -> Any:
        await ctx.aio_wait_for_event("a")
        ready.set()
        return await ctx.aio_wait_for_event("c")

    return await asyncio.gather(waits(), sets())


@shape(
    [("", ["event a", "fails"]), ("go x", ["event caught"]), ("go a", []), ("go caught", ["event end"])],
    ["x failed", "caught", "a"],
)
async def gather_with_failure(ctx: DurableContext, kin: Kin) -> Any:
    other = asyncio.create_task(ctx.aio_wait_for_event("a"))
    await_failing = kin.fails.aio_run("x")
    said = ""
    try:
        await asyncio.gather(await_failing, other)
    except TaskRunError as error:
        said = error.exc
    return [said, await ctx.aio_wait_for_event("caught"), await other]


@shape(
    [("", ["fails", "event b"]), ("go x", ["event after"]), ("go b", []), ("go after", ["event end"])], ["TaskRunError", "after"]
)
async def task_group_with_failure(ctx: DurableContext, kin: Kin) -> Any:
    names: list[str] = []
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(kin.fails.aio_run("x"))
            group.create_task(ctx.aio_wait_for_event("b"))
    except ExceptionGroup as error:
        names = [type(inner).__name__ for inner in error.exceptions]
    return [*names, await ctx.aio_wait_for_event("after")]


@shape([("", ["event main", "event aside"]), ("go aside", ["event aside2"]), ("go main", ["event end"])], "main")
async def not_awaited(ctx: DurableContext, kin: Kin) -> Any:
    async def aside() -> None:
        await ctx.aio_wait_for_event("aside")
        await ctx.aio_wait_for_event("aside2")

    keep = asyncio.create_task(aside())
    result = await ctx.aio_wait_for_event("main")
    assert not keep.done()
    return result


@shape(
    [("", ["event g0", "event h0"]), ("go h0", ["event h1"]), ("go g0", ["event g1"]), ("go g1", []), ("go h1", ["event end"])],
    [["g0", "g1"], ["h0", "h1"]],
)
async def async_generators(ctx: DurableContext, kin: Kin) -> Any:
    async def stream(name: str) -> AsyncIterator[Any]:
        for number in range(2):
            yield await ctx.aio_wait_for_event(f"{name}{number}")

    async def collect(name: str) -> list[Any]:
        return [item async for item in stream(name)]

    return await asyncio.gather(collect("g"), collect("h"))


@shape(
    [("", ["wait for", "wait for"]), ("go b", ["event b2"]), ("+5", ["event a2"]), ("go a2", []), ("go b2", ["event end"])],
    [["sleep:5s", "a2"], ["b", "b2"]],
)
async def or_groups(ctx: DurableContext, kin: Kin) -> Any:
    async def one(name: str, seconds: int) -> list[Any]:
        won = await ctx.aio_wait_for(name, or_(UserEventCondition(name), SleepCondition(timedelta(seconds=seconds))))
        return [*won["CREATE"], await ctx.aio_wait_for_event(f"{name}2")]

    return await asyncio.gather(one("a", 5), one("b", 60))


@shape(
    [
        ("", ["event a", "event b"]),
        ("go b", ["named", "event b2"]),
        ("go a", ["named", "quick", "event a2"]),
        ("go a2", []),
        ("go b2", ["event end"]),
    ],
    ["memo a", "memo b"],
)
async def memo_mix(ctx: DurableContext, kin: Kin) -> Any:
    async def one(name: str) -> Any:
        await ctx.aio_wait_for_event(name)
        value = await ctx.aio_memo(named, str, name)
        if name == "a":
            await kin.quick.aio_run(name)
        await ctx.aio_wait_for_event(f"{name}2")
        return value

    return await asyncio.gather(one("a"), one("b"))


@shape([("", ["now", "sleep 1m", "event slow"]), ("go slow", ["event late"]), ("+60", ["event end"])], ["timeout", "late?"])
async def timeout_by_race(ctx: DurableContext, kin: Kin) -> Any:
    """A time-out written with a sleep: the event's follower is cancelled when the sleep ends."""

    async def chain() -> None:
        await ctx.aio_wait_for_event("slow")
        await ctx.aio_wait_for_event("late")

    await ctx.aio_now()
    sleep, work = asyncio.create_task(ctx.aio_sleep_for(timedelta(seconds=60))), asyncio.create_task(chain())
    done, _ = await asyncio.wait([sleep, work], return_when=asyncio.FIRST_COMPLETED)
    work.cancel()
    return ["timeout" if sleep in done else "work", "late?"]


@shape([("", ["gate", "gate", "event x"]), ("go b", []), ("go x", []), ("go a", ["event end"])], [["a", "b"], "x"])
async def bulk_beside_event(ctx: DurableContext, kin: Kin) -> Any:
    items = [kin.gate.create_bulk_run_item(input=name) for name in "ab"]
    return await asyncio.gather(kin.gate.aio_run_many(items), ctx.aio_wait_for_event("x"))
