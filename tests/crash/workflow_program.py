"""A workflow to be killed: run as ``python -m tests.crash.workflow_program LOG COUNTS [POINT]``, as `tests.crash.program` is."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

from durable_nb import Context, Durable, DurableContext, ParentCondition, SleepCondition, UserEventCondition, Workflow, or_
from tests.crash.program import arm

WIDTH = 4


def declare(durable: Durable, counts: Path) -> Workflow:
    """Declare the workflow: a root, a fan-out with retries and skips, a gate with an event, a fan-in."""
    wf = durable.workflow(name="wf", retries=1)

    def count(what: str) -> None:
        with counts.open("a") as file:
            file.write(f"{what}\n")

    @wf.task()
    def root(input: int, ctx: Context) -> int:
        count("root")
        return input

    def part(number: int) -> Any:
        async def run(input: int, ctx: Context) -> int:
            count(f"part {number} {ctx.retry_count}")
            if number == 1 and ctx.retry_count == 0:
                raise ValueError("the first attempt always fails")
            return ctx.task_output(root) * number

        return run

    parts = [wf.task(name=f"part {number}", parents=[root], retries=1)(part(number)) for number in range(WIDTH)]

    @wf.task(parents=[root], skip_if=ParentCondition(root, "output > 1"))
    def skipped(input: int, ctx: Context) -> None:
        count("skipped")

    @wf.durable_task(parents=[*parts, skipped], wait_for=or_(UserEventCondition("go"), SleepCondition(timedelta(hours=1))))
    async def total(input: int, ctx: DurableContext) -> int:
        await ctx.aio_sleep_for(timedelta(milliseconds=10))
        result = sum(ctx.task_output(part) for part in parts)
        return int(await ctx.aio_memo(lambda: result, int))

    @wf.task(parents=[total], cancel_if=UserEventCondition("stop"), wait_for=SleepCondition(timedelta(milliseconds=20)))
    def report(input: int, ctx: Context) -> int:
        count("report")
        return ctx.task_output(total) + 1

    @wf.on_success_task()
    def done(input: int, ctx: Context) -> list[Any]:
        count("done")
        return [ctx.task_output(report), ctx.was_skipped(skipped)]

    return wf


async def drive(durable: Durable, workflow: Workflow) -> Any:
    """Start the run or go on with it, push its event once it is awaited, give its result."""
    ref = await durable.aio_start_named(workflow, 3, key="main")
    result = asyncio.ensure_future(ref.aio_result())
    while not result.done():
        with closing(sqlite3.connect(f"file:{durable.path}?mode=ro", uri=True)) as connection:
            (waits,) = connection.execute("SELECT count(*) FROM wait WHERE key = 'go' AND matched_at IS NULL").fetchone()
        if waits:
            await durable.event.aio_push("go")
        await asyncio.wait([result], timeout=0.01)
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
