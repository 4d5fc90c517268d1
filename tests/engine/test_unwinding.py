"""Leaving a function at an eviction: every asyncio task of the run is told, generators are closed, and nothing is written."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from durable_nb import Context, Durable, DurableContext
from durable_nb.engine.leaving import LEAVE_SECONDS
from durable_nb.errors import Evicted
from tests.engine.helpers import Bench, view, wait_until

LATER = datetime(2040, 1, 1, tzinfo=UTC)
WHO: contextvars.ContextVar[str] = contextvars.ContextVar("WHO", default="nobody")


def evict(durable: Durable, ref: Any) -> None:
    wait_until(lambda: durable.runs.evict(ref), what="the eviction")


def test_each_task_of_the_run_is_told_in_its_own_context(bench: Bench, durable: Durable) -> None:
    """Also one that waits for another through a queue, an event, a lock or a gather."""
    told: list[tuple[str, str]] = []

    async def telling(name: str, wait: Callable[[], Any]) -> None:
        WHO.set(name)
        try:
            await wait()
        except BaseException as error:
            told.append((WHO.get(), type(error).__name__))
            raise

    @durable.durable_task()
    async def many(input: Any, ctx: DurableContext) -> None:
        queue, event, lock = asyncio.Queue[int](), asyncio.Event(), asyncio.Lock()
        await lock.acquire()
        waits: dict[str, Callable[[], Any]] = {
            "ask": lambda: ctx.aio_wait_for_event("go"),
            "queue": queue.get,
            "event": event.wait,
            "lock": lock.acquire,
            "gather": lambda: asyncio.gather(ctx.aio_wait_for_event("one"), ctx.aio_wait_for_event("two")),
        }
        tasks = [asyncio.create_task(telling(name, wait)) for name, wait in waits.items()]
        await telling("main", lambda: asyncio.wait(tasks))

    ref = many.run(wait_for_result=False)
    bench.asked(ref, 3)
    evict(durable, ref)
    wait_until(lambda: len(told) == 6)
    assert sorted(told) == [(name, "Evicted") for name in ("ask", "event", "gather", "lock", "main", "queue")]


def test_async_generators_are_closed(bench: Bench, durable: Durable) -> None:
    """In the context of whoever iterates them, before the run is entered again, whoever still refers to them."""
    closed: list[str] = []
    kept: list[Any] = []

    @durable.durable_task()
    async def reads(input: Any, ctx: DurableContext) -> str:
        async def lines(name: str) -> AsyncIterator[int]:
            try:
                yield 1
                yield 2
            finally:
                with suppress(Evicted):
                    await ctx.aio_now()
                    closed.append("a checkpoint while leaving")
                closed.append(f"{name} by {WHO.get()}")

        async def iterate(name: str) -> None:
            WHO.set(name)
            generator = lines(name)
            kept.append(generator)
            async for _ in generator:
                await ctx.aio_wait_for_event("go")

        await asyncio.gather(iterate("a"), iterate("b"))
        return "done"

    ref = reads.run(wait_for_result=False)
    bench.asked(ref, 2)
    evict(durable, ref)
    wait_until(lambda: len(closed) == 2, 5)
    assert sorted(closed) == ["a by a", "b by b"]
    assert len(bench.asks(ref)) == 2


def test_what_is_asked_while_leaving_raises_again_and_writes_nothing(bench: Bench, durable: Durable) -> None:
    @durable.task()
    async def child(input: Any, ctx: Context) -> Any:
        return input

    raised: list[str] = []

    def note() -> None:
        raised.append("a memo")

    @durable.durable_task()
    async def asks(input: Any, ctx: DurableContext) -> str:
        try:
            await ctx.aio_wait_for_event("go")
        except Evicted:
            every: list[Callable[[], Any]] = [
                lambda: ctx.aio_sleep_for(timedelta(0)),
                lambda: ctx.aio_wait_for_event("go"),
                ctx.aio_now,
                lambda: ctx.aio_memo(note),
                lambda: ctx.aio_step(note),
                lambda: child.aio_run(1),
                lambda: child.aio_run_many([child.create_bulk_run_item(input=1)]),
                lambda: child.aio_run(1, wait_for_result=False),
                lambda: ctx.aio_ask("well?", bool),
                lambda: anext(ctx.aio_events("news")),
                lambda: durable.event.aio_push("news"),
                lambda: durable.runs.aio_cancel(ctx.workflow_run_id),
                lambda: durable.queue.aio_pause("child"),
                lambda: durable.scheduled.aio_create("child", LATER, 1),
                lambda: durable.cron.aio_create("child", "c", "* * * * *", 1),
                lambda: durable.rate_limits.aio_put("k", 1),
            ]
            for ask in every:
                try:
                    await ask()
                    raised.append("went through")
                except Evicted:
                    raised.append("Evicted")
                except BaseException as error:
                    raised.append(repr(error))
            ctx.log("while leaving")
            raise
        return "done"

    ref = asks.run(wait_for_result=False)
    bench.asked(ref, 1)
    before = bench.count("journal")
    evict(durable, ref)
    wait_until(lambda: len(raised) == 16, 5, what=f"{raised}")
    assert list(enumerate(raised)) == list(enumerate(["Evicted"] * 16))
    tables = ("run", "event", "schedule", "pause", "checkpoint", "question")
    assert [bench.count(table) for table in tables] == [1, 0, 0, 0, 1, 0]
    assert bench.count("journal") == before + 1, "the eviction alone"
    assert (view(durable, ref).retry_count, view(durable, ref).invocation_count) == (0, 1)
    durable.event.push("go")
    assert ref.result() == "done"
    assert view(durable, ref).invocation_count == 2


def test_a_gather_that_takes_errors_as_values_is_left_and_not_told_that_its_members_failed(
    bench: Bench, durable: Durable
) -> None:
    """As is a wait: an eviction is no outcome of a coroutine."""
    went_on: list[object] = []

    @durable.durable_task()
    async def alarms(input: str, ctx: DurableContext) -> list[Any]:
        if input == "gather":
            waits = [ctx.aio_wait_for_event(key) for key in "ab"]
            results = list(await asyncio.gather(*waits, return_exceptions=True))
        else:
            tasks = [asyncio.create_task(ctx.aio_wait_for_event(key)) for key in "ab"]
            await asyncio.wait(tasks)
            results = [task.result() for task in tasks]
        went_on.append(results)
        return results

    refs = [alarms.run(how, wait_for_result=False) for how in ("gather", "wait")]
    for ref in refs:
        bench.asked(ref, 2)
        evict(durable, ref)
    for key in "ab":
        durable.event.push(key, key)
    assert [ref.result() for ref in refs] == [["a", "b"]] * 2
    assert went_on == [["a", "b"]] * 2


def test_a_task_that_waits_for_another_delays_no_eviction(bench: Bench, durable: Durable) -> None:
    """Its function is left at once, not when its time to unwind is over."""
    left: list[float] = []

    @durable.durable_task()
    async def fed(input: Any, ctx: DurableContext) -> int:
        queue = asyncio.Queue[int]()

        async def feed() -> None:
            queue.put_nowait(await ctx.aio_wait_for_event("go"))

        feeding = asyncio.create_task(feed())
        try:
            return await queue.get()
        finally:
            left.append(time.monotonic())
            feeding.cancel()

    ref = fed.run(wait_for_result=False)
    bench.asked(ref, 1)
    began = time.monotonic()
    evict(durable, ref)
    wait_until(lambda: left)
    assert left[0] - began < 0.9 * LEAVE_SECONDS
    durable.event.push("go", 7)
    assert ref.result() == 7
    assert view(durable, ref).retry_count == 0


def test_what_outlives_its_eviction_is_named_and_writes_neither_lines_nor_chunks(
    bench: Bench, durable: Durable, caplog: pytest.LogCaptureFixture
) -> None:
    gate, over = threading.Event(), threading.Event()

    @durable.durable_task()
    async def stubborn(input: Any, ctx: DurableContext) -> str:
        try:
            await ctx.aio_wait_for_event("go")
        except Evicted:
            while not gate.is_set():
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(0.003)
            ctx.log("after the end")
            ctx.put_stream("after the end")
            ctx.progress(0.5, "after the end")
            over.set()
            raise
        return "done"

    ref = stubborn.run(wait_for_result=False)
    bench.asked(ref, 1)
    evict(durable, ref)
    wait_until(lambda: "can write nothing any more" in caplog.text, 5)
    gate.set()
    assert over.wait(5)
    durable.event.push("go")
    assert ref.result() == "done"
    assert [bench.count(table) for table in ("line", "chunk")] == [0, 0]
    assert view(durable, ref).progress is None
