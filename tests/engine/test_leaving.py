"""Code that will not leave, or asks where it may not: it stops nobody else."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
from datetime import timedelta
from typing import Any

import pytest

from durable_nb import Context, Durable, DurableContext, RunRef, TaskRunError
from durable_nb.engine import execution
from durable_nb.log import checkpoints
from tests.engine.helpers import Bench, reach, view, wait_until

HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "LEAVE_SECONDS", 0.1)


def declare_echo(durable: Durable) -> Any:
    @durable.task()
    async def echo(input: Any, ctx: Context) -> Any:
        return input

    return echo


def evict(durable: Durable) -> None:
    [running] = durable.engine.executions.values()
    wait_until(running.is_waiting)
    assert durable.call(lambda: durable.engine.dispatcher.evict(running), aio="")


def test_code_that_swallows_every_eviction_is_named_and_abandoned(
    bench: Bench, durable: Durable, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    swallowed, is_over = list[BaseException](), threading.Event()

    @durable.durable_task()
    async def stubborn(input: Any, ctx: DurableContext) -> None:
        while not is_over.is_set():
            try:
                await ctx.aio_sleep_for(HOUR)
            except BaseException as error:
                swallowed.append(error)

    ref = stubborn.run(wait_for_result=False)
    bench.asked(ref, 1)
    evict(durable)
    wait_until(lambda: "can write nothing" in caplog.text)
    number = len(swallowed)
    assert declare_echo(durable).run(1) == 1
    assert len(swallowed) == number, "it asks no more"
    assert view(durable, ref).is_evicted
    is_over.set()  # its coroutine can be collected


def test_code_that_swallows_its_divergence_is_parked(bench: Bench) -> None:
    def declare(durable: Durable, duration: timedelta) -> RunRef[Any]:
        @durable.durable_task()
        async def stubborn(input: Any, ctx: DurableContext) -> None:
            while True:
                try:
                    await ctx.aio_sleep_for(duration)
                except Exception:
                    continue

        return durable.start_named(stubborn, None, key="once")

    first, second = bench.durable(), bench.durable()
    bench.asked(declare(first, HOUR), 1)
    first.close()
    ref = declare(second, 2 * HOUR)
    assert "sleep 2h" in (reach(second, ref, lambda run: run.blocked_reason).blocked_reason or "")
    assert declare_echo(second).run(1) == 1


def test_waiting_for_a_child_is_not_the_same_ask_as_starting_it(bench: Bench) -> None:
    def declare(durable: Durable, *, wait: bool) -> RunRef[Any]:
        echo = declare_echo(durable)

        @durable.durable_task()
        async def parent(input: Any, ctx: DurableContext) -> None:
            await echo.aio_run(1, wait_for_result=wait)
            await ctx.aio_wait_for_event("go")

        return durable.start_named(parent, None, key="once")

    first, second = bench.durable(), bench.durable()
    bench.asked(declare(first, wait=True), 2)
    first.close()
    ref = declare(second, wait=False)
    reason = reach(second, ref, lambda run: run.blocked_reason).blocked_reason or ""
    assert "echo 1 (child)" in reason
    assert "echo 1 (spawn)" in reason


def test_a_durable_run_is_not_executed_by_a_regular_task_of_its_name(bench: Bench) -> None:
    first, second = bench.durable(), bench.durable()

    @first.durable_task(name="task")
    async def durable_form(input: Any, ctx: DurableContext) -> None:
        await ctx.aio_wait_for_event("go")

    ref = durable_form.run(wait_for_result=False)
    bench.asked(ref, 1)
    first.close()

    @second.task(name="task")
    async def regular_form(input: Any, ctx: Context) -> None:
        raise AssertionError("it does everything again")

    second.event.push("go")
    assert "regular one now" in (reach(second, ref, lambda run: run.blocked_reason).blocked_reason or "")


def test_the_engine_is_not_asked_from_another_loop(durable: Durable) -> None:
    @durable.durable_task()
    async def asks(input: Any, ctx: DurableContext) -> None:
        await asyncio.to_thread(lambda: asyncio.run(ctx.aio_sleep_for(HOUR)))

    with pytest.raises(TaskRunError, match="another event loop"):
        asks.run()


def test_a_callback_of_any_kind_hinders_no_eviction(bench: Bench, durable: Durable) -> None:
    @durable.durable_task()
    async def waiting(input: Any, ctx: DurableContext) -> str:
        task = asyncio.create_task(ctx.aio_wait_for_event("go"))
        task.add_done_callback(functools.partial(lambda _: None))
        await asyncio.wait({task})
        return "done"

    ref = waiting.run(wait_for_result=False)
    bench.asked(ref, 1)
    evict(durable)
    durable.event.push("go")
    assert ref.result() == "done"


def test_a_refused_write_parks_the_run(bench: Bench, durable: Durable, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ValueError("not this one")

    @durable.durable_task()
    async def asks(input: Any, ctx: DurableContext) -> str:
        await ctx.aio_sleep_for(timedelta(0))
        return "done"

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "add_ask", refuse)
        ref = asks.run(wait_for_result=False)
        assert "not this one" in (reach(durable, ref, lambda run: run.blocked_reason).blocked_reason or "")
    assert durable.call(lambda: durable.runs.aio_retake(ref.workflow_run_id), aio="")
    assert ref.result() == "done"
