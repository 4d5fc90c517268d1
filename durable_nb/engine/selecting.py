"""Selecting: several waits and children at once, of which the first to complete is taken and the others are given up.

Invariant: they are asked in the order given, and outcomes are delivered one at a time, so the first is the same one in every
replay.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Awaitable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from durable_nb.engine.giving_up import LOST, RACES, Race
from durable_nb.engine.mailbox import Mailbox
from durable_nb.errors import ArgumentError
from durable_nb.tasks.conditions import OrGroup, SleepCondition, UserEventCondition

if TYPE_CHECKING:
    from durable_nb.engine.durable_context import DurableContext

Option = Awaitable[Any] | Mailbox | SleepCondition | UserEventCondition | OrGroup
OPTIONS = (Awaitable, Mailbox, SleepCondition, UserEventCondition, OrGroup)


class Selected(NamedTuple):
    """What `ctx.aio_select` gives.

    Attributes:
        name: which of them completed first.
        value: what it gave.
    """

    name: str
    value: Any


async def select(ctx: DurableContext, named: Mapping[str, Option]) -> Selected:
    """Give the first to complete.

    Raises:
        ArgumentError: there is nothing to wait for, or something that cannot be waited for.
    """
    wrong = next((name for name, option in named.items() if not isinstance(option, OPTIONS)), None)  # type: ignore[redundant-expr]
    if wrong is not None or not named:
        for option in named.values():
            if inspect.iscoroutine(option):
                option.close()
        if not named:
            raise ArgumentError("aio_select needs something to wait for: aio_select(reply=ctx.aio_wait_for_event('reply'), …).")
        raise ArgumentError(
            f"aio_select({wrong}={type(named[wrong or '']).__name__}): give a call that is not awaited yet, such as "
            "ctx.aio_sleep_for(…) or task.aio_run(…), or a condition."
        )
    finished: list[str] = []
    race = Race()
    tasks = {name: _begin(_wait_for(ctx, name, option), name, race) for name, option in named.items()}
    for name, task in tasks.items():
        task.add_done_callback(lambda _, name=name: finished.append(name))  # type: ignore[misc]
    try:
        await asyncio.wait(tasks.values(), return_when=asyncio.FIRST_COMPLETED)
        first = tasks[finished[0]]
        race.is_won = not first.cancelled() and first.exception() is None
    finally:
        for task in tasks.values():
            task.cancel(LOST if race.is_won else None)
        await asyncio.wait(tasks.values())
        for task in tasks.values():
            task.cancelled() or task.exception()  # what a loser raised is nobody's
    return Selected(finished[0], tasks[finished[0]].result())


def _begin(work: Coroutine[Any, Any, Any], name: str, race: Race) -> asyncio.Task[Any]:
    context = contextvars.copy_context()
    context.run(RACES.set, (*RACES.get(), race))
    return asyncio.create_task(work, name=f"select {name}", context=context)


async def _wait_for(ctx: DurableContext, name: str, option: Option) -> Any:
    match option:
        case SleepCondition():
            return await ctx.aio_sleep_for(option.duration)
        case UserEventCondition():
            return await ctx.aio_wait_for_event(option.event_key, option.expression, scope=option.scope)
        case OrGroup():
            return await ctx.aio_wait_for(name, option)
        case Mailbox():
            return await anext(option)
        case _:
            return await option
