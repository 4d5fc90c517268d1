"""Memos, children and empty runs: what a checkpoint costs alone, in company, and relaxed."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from durable_nb import Context, Durable, DurableContext
from durable_nb.log.connection import Durability
from tests.benchmarks.measure import Measured, Meter, Setting, counted_commits, latencies

MEMOS_OF_ONE = 20  # in a run that is one of a hundred


@contextmanager
def opened(folder: Path, durability: Durability = "full") -> Iterator[Durable]:
    """Open a new log."""
    with Durable(folder / "log.db", durability=durability) as durable:
        yield durable


def rows(folder: Path, sql: str) -> list[Any]:
    """Read the log as it is on the disk."""
    with closing(sqlite3.connect(folder / "log.db")) as connection:
        return connection.execute(sql).fetchall()


def counter(durable: Durable) -> Any:
    """Declare a durable task that makes `input` memos, one after another, and gives the last."""

    @durable.durable_task(name="counter")
    async def count(input: int, ctx: DurableContext) -> int:
        async def next_of(number: int) -> int:
            return number + 1

        reached = 0
        for _ in range(input):
            reached = await ctx.aio_memo(next_of, int, reached)
        return reached

    return count


def sequential(setting: Setting) -> Measured:
    """1 run × 1,000 memos, one after another."""
    return _one_run(setting, "full")


def relaxed(setting: Setting) -> Measured:
    """The same, where a commit does not wait for the disk."""
    return _one_run(setting, "relaxed")


def _one_run(setting: Setting, durability: Durability) -> Measured:
    memos = setting.count(1000, least=5)
    with opened(setting.folder, durability) as durable:
        count = counter(durable)
        count.run(2)  # opens the log, imports what is imported late
        with counted_commits() as commits, Meter(setting.folder) as meter:
            assert count.run(memos) == memos
    return Measured(memos, meter.figures(memos) | {"commits": commits.number / memos})


def concurrent(setting: Setting) -> Measured:
    """100 runs × 20 memos, all at once."""
    runs = setting.count(100, least=2)
    memos = runs * MEMOS_OF_ONE
    with opened(setting.folder) as durable:
        count = counter(durable)
        count.run(2)
        items = [count.create_bulk_run_item(MEMOS_OF_ONE) for _ in range(runs)]
        with counted_commits() as commits, Meter(setting.folder) as meter:
            assert count.run_many(items) == [MEMOS_OF_ONE] * runs
    return Measured(memos, meter.figures(memos) | {"commits": commits.number / memos})


def children(setting: Setting) -> Measured:
    """1 parent × 10,000 children and their results."""
    return _family(setting, setting.count(10_000, least=5))


def few_children(setting: Setting) -> Measured:
    """1 parent × 200 children and their results."""
    return _family(setting, setting.count(200, least=5))


def _family(setting: Setting, number: int) -> Measured:
    with opened(setting.folder) as durable:

        @durable.task()
        async def child(input: int, ctx: Context) -> int:
            return input * 2

        @durable.durable_task()
        async def parent(input: int, ctx: DurableContext) -> int:
            return sum(await child.aio_run_many([child.create_bulk_run_item(index) for index in range(input)]))

        parent.run(2)
        with counted_commits() as commits, Meter(setting.folder) as meter:
            assert parent.run(number) == number * (number - 1)
    return Measured(number, meter.figures(number) | {"commits": commits.number / number})


def empty(setting: Setting) -> Measured:
    """Empty runs, one after another: from the call of `run` to its result."""
    number, seconds = setting.count(1000, least=5), []
    with opened(setting.folder) as durable:

        @durable.task()
        async def nothing(input: int, ctx: Context) -> int:
            return input

        nothing.run(0)
        with counted_commits() as commits, Meter(setting.folder) as meter:
            for index in range(number):
                began = time.perf_counter()
                assert nothing.run(index) == index
                seconds.append(time.perf_counter() - began)
    assert rows(setting.folder, "SELECT count(*) FROM v_runs WHERE status = 'COMPLETED'") == [(number + 1,)]
    return Measured(number, meter.figures(number) | latencies(seconds) | {"commits": commits.number / number})
