"""A program to be killed: run as ``python -m tests.crash.program LOG COUNTS [POINT]``.

It starts one run by name (or goes on with it), answers its question once, prints the result as JSON and ends. Each execution of a
memo or child appends a line to the file COUNTS, outside the log, so that a double execution cannot hide. POINT is ``before:N`` or
``after:N``: the process kills itself with SIGKILL just before or just after its N-th commit.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import sys
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

from durable_nb import Context, Durable, DurableContext, SleepCondition, UserEventCondition, or_
from durable_nb.log import writer

CHILDREN = 6


def kill_self() -> None:
    """Die as a power cut would have it: no handler, no clean-up."""
    os.kill(os.getpid(), signal.SIGKILL)


def arm(point: str) -> None:
    """Kill the process just before or just after its N-th commit."""
    side, _, number = point.partition(":")
    commits, transact = 0, writer.transact

    def watched(connection: sqlite3.Connection, batch: list[writer.Item]) -> None:
        nonlocal commits
        commits += 1
        if commits == int(number) and side == "before":
            connection.set_trace_callback(lambda sql: kill_self() if sql == "COMMIT" else None)
        transact(connection, batch)
        if commits == int(number):
            kill_self()

    writer.transact = watched  # the one place where this process commits


def declare(durable: Durable, counts: Path) -> Any:
    """Declare the tasks; give the parent."""

    def count(what: str) -> None:
        """Take down an execution, outside the log."""
        with counts.open("a") as file:
            file.write(f"{what}\n")

    def double(number: int) -> int:
        count("memo")
        return number * 2

    @durable.task()
    def square(input: int, ctx: Context) -> int:
        count(f"square {input}")
        return input * input

    @durable.task(retries=1)
    async def shaky(input: int, ctx: Context) -> int:
        count(f"shaky {input} {ctx.retry_count}")
        if ctx.retry_count == 0:
            raise ValueError("the first attempt always fails")
        return input + 1

    @durable.durable_task()
    async def nested(input: int, ctx: DurableContext) -> int:
        await ctx.aio_sleep_for(timedelta(milliseconds=10))
        squared: int = await square.aio_run(100 + input)
        return squared

    @durable.durable_task()
    async def parent(input: int, ctx: DurableContext) -> dict[str, Any]:
        first = await ctx.aio_memo(double, int, input)
        squares = await square.aio_run_many([square.create_bulk_run_item(number) for number in range(input)])
        pair = await asyncio.gather(nested.aio_run(1), shaky.aio_run(7))
        answer = await ctx.aio_wait_for(
            "answer", or_(UserEventCondition("approve", "input.by == 'me'"), SleepCondition(timedelta(hours=1)))
        )
        slept = await ctx.aio_sleep_for(timedelta(milliseconds=30))
        pushed = await durable.event.aio_push("done", {"sum": sum(squares)})
        return {
            "first": first,
            "squares": squares,
            "pair": pair,
            "answer": answer,
            "slept": slept.duration.total_seconds(),
            "event": bool(pushed.event_id),
        }

    return parent


def unanswered(durable: Durable) -> list[str]:
    """Who has still to answer, where the run waits for an answer."""
    with closing(sqlite3.connect(f"file:{durable.path}?mode=ro", uri=True)) as connection:
        waiting = connection.execute("SELECT count(*) FROM v_waits WHERE key = 'approve'").fetchone()[0]
        accepted = {row[0] for row in connection.execute("SELECT payload ->> 'by' FROM event WHERE key = 'approve'")}
    return [name for name in ("somebody else", "me") if waiting and name not in accepted]


async def drive(durable: Durable, parent: Any) -> Any:
    """Start the run or go on with it, answer its question once it is asked, give its result."""
    ref = await durable.aio_start_named(parent, CHILDREN, key="main")
    result = asyncio.ensure_future(ref.aio_result())
    while not result.done():
        for name in unanswered(durable):
            await durable.event.aio_push("approve", {"by": name})
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
