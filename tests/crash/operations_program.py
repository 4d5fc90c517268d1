"""What a durable task can do beyond waits, memos and children, to be killed.

Run as ``python -m tests.crash.operations_program LOG COUNTS [POINT]``, as `tests.crash.program` is. One agent takes orders from a
mailbox, steps, maps, selects, asks, cancels a child, and continues as new.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import sys
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

from durable_nb import Context, Durable, DurableContext, QuestionClosedError, RunCancelledError
from tests.crash.program import arm

ORDERS = 4
MAPPED = 4


def declare(durable: Durable, counts: Path) -> Any:
    """Declare the tasks; give the agent."""

    def count(what: str) -> None:
        with counts.open("a") as file:
            file.write(f"{what}\n")

    @durable.task(concurrency=1)
    async def limited(input: int, ctx: Context) -> int:
        count(f"limited {input}")
        return input * input

    @durable.task(on_events=["order"])
    def listen(input: dict[str, int], ctx: Context) -> int:
        count(f"listen {input['number']}")
        return input["number"]

    @durable.durable_task()
    async def sleeper(input: Any, ctx: DurableContext) -> None:
        try:
            await ctx.aio_sleep_for(timedelta(hours=1))
        finally:
            await ctx.aio_memo(count, None, "cleaned up")

    @durable.durable_task(deadline=timedelta(hours=1))
    async def agent(input: dict[str, Any], ctx: DurableContext) -> list[Any]:
        orders = ctx.aio_events("order")
        if input["done"]:
            return [*input["done"], await anext(orders)]
        attempts: list[int] = []

        def flaky() -> str:
            attempts.append(1)
            count("step")
            if len(attempts) == 1:
                raise ValueError("the first attempt always fails")
            return "stepped"

        taken = [await anext(orders) for _ in range(ORDERS - 1)]
        step = await ctx.aio_step(flaky, retries=1)
        mapped = await ctx.aio_map(limited, range(MAPPED), max_concurrency=2)
        first = await ctx.aio_select(never=ctx.aio_wait_for_event("never"), soon=limited.aio_run(MAPPED))
        answer = await ctx.aio_ask("Go on?", bool, assignees="me")
        child = await sleeper.aio_run({}, wait_for_result=False)
        await durable.runs.aio_cancel(child)
        try:
            await child.aio_result()
            end = "it ended"
        except RunCancelledError:
            end = "cancelled"
        return ctx.continue_as_new({"done": [taken, step, mapped, [first.name, first.value], answer, end]})

    return agent


async def drive(durable: Durable, agent: Any) -> Any:
    """Start the run or go on with it, push its orders, answer its question, give its result."""
    ref = await durable.aio_start_named(agent, {"done": []}, key="main")
    result = asyncio.ensure_future(ref.aio_result())
    while not result.done():
        with closing(sqlite3.connect(f"file:{durable.path}?mode=ro", uri=True)) as connection:
            (pushed,) = connection.execute("SELECT count(*) FROM event WHERE key = 'order'").fetchone()
        for number in range(pushed, ORDERS):
            await durable.event.aio_push("order", {"number": number})
        for item in await durable.inbox.aio_list(assignee="me"):
            with contextlib.suppress(QuestionClosedError):
                await durable.inbox.aio_answer(item.id, True, by="me")
        await asyncio.wait([result], timeout=0.01)
    listened = await durable.runs.aio_list(task="listen")
    while sum(run.status == "COMPLETED" for run in listened) < ORDERS:
        await asyncio.sleep(0.01)
        listened = await durable.runs.aio_list(task="listen")
    return result.result()


def main() -> None:
    """Run as told by the command line."""
    log, counts = Path(sys.argv[1]), Path(sys.argv[2])
    if len(sys.argv) > 3:
        arm(sys.argv[3])
    with Durable(log) as durable:
        print(json.dumps(asyncio.run(drive(durable, declare(durable, counts)))))


if __name__ == "__main__":
    main()
