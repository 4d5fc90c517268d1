"""A process among several on one log, to be killed: run as ``python -m tests.crash.worker LOG COUNTS RUNS``.

Every process starts the same runs by name, so that whoever lives brings them to their ends. Each execution of a memo or child
appends a line to COUNTS, outside the log. Prints ``ready`` once it serves, begins when it is told a line, prints ``done`` when
every run has ended, and stays until it is killed or its input ends.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from durable_nb import Context, Durable, DurableContext

CHILDREN = 4
MILLISECONDS = 20.0


def declare(durable: Durable, counts: Path) -> Any:
    """Declare the tasks; give the one that is started."""

    def count(what: str) -> None:
        with counts.open("a") as file:
            file.write(f"{what}\n")

    @durable.task()
    async def square(input: list[int], ctx: Context) -> int:
        count(f"square {input[0]} {input[1]}")
        await asyncio.sleep(MILLISECONDS / 1000)
        return input[1] ** 2

    @durable.durable_task()
    async def work(input: int, ctx: DurableContext) -> list[int]:
        def noted() -> int:
            count(f"memo {input}")
            return input

        first = await ctx.aio_memo(noted, int)
        squares = await asyncio.gather(*(square.aio_run([input, number]) for number in range(CHILDREN)))
        await ctx.aio_sleep_for(timedelta(milliseconds=500))
        return [first, *squares, await square.aio_run([input, CHILDREN])]

    return work


def expected(number: int) -> list[int]:
    """Give what run `number` must end with."""
    return [number, *(child**2 for child in range(CHILDREN + 1))]


async def drive(durable: Durable, work: Any, runs: int) -> None:
    """Start every run, and see it end, whoever brings it to its end."""
    refs = [await durable.aio_start_named(work, number, key=f"run {number}") for number in range(runs)]
    results = await asyncio.gather(*(ref.aio_result() for ref in refs))
    assert results == [expected(number) for number in range(runs)]


def main() -> None:
    """Run as told by the command line."""
    log, counts, runs = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    with Durable(log) as durable:
        work = declare(durable, counts)
        print("ready", flush=True)
        sys.stdin.readline()
        asyncio.run(drive(durable, work, runs))
        print("done", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
