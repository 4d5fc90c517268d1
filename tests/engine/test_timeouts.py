"""Time-outs: work is counted, durable waits are not; a queue's time counts while somebody could work."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from typing import Any

import pytest

from durable_nb import Context, Durable, DurableContext, EvictionPolicy, TaskRunError
from durable_nb.engine.dispatch import Slots
from tests.engine.helpers import Bench, opened, reach, settle, view, wait_until


def fails_with(durable: Durable, ref: Any, error: str) -> str:
    with pytest.raises(TaskRunError) as caught:
        ref.result()
    assert caught.value.exc_type == error
    return caught.value.exc


# ---------------------------------------------------------------- execution_timeout


@pytest.mark.parametrize("timeout", [10, "10s", timedelta(seconds=10)])
def test_a_regular_task_on_the_loop_is_stopped(bench: Bench, durable: Durable, timeout: Any) -> None:
    said: list[str] = []

    @durable.task(execution_timeout=timeout)
    async def slow(input: Any, ctx: Context) -> None:
        said.append("in")
        try:
            await asyncio.Event().wait()
        finally:
            said.append("out")

    ref = slow.run(wait_for_result=False)
    wait_until(lambda: said)
    bench.clock.advance(9)
    settle(durable)
    assert said == ["in"]
    bench.clock.advance(2)
    assert "10s" in fails_with(durable, ref, "ExecutionTimeoutError")
    assert said == ["in", "out"]


def test_a_timed_out_attempt_is_retried_with_a_full_allowance(bench: Bench, durable: Durable) -> None:
    attempts: list[int] = []

    @durable.task(execution_timeout=10, retries=1)
    async def slow(input: Any, ctx: Context) -> None:
        attempts.append(ctx.attempt_number)
        await asyncio.Event().wait()

    ref = slow.run(wait_for_result=False)
    wait_until(lambda: attempts == [1])
    bench.clock.advance(11)
    wait_until(lambda: attempts == [1, 2])
    bench.clock.advance(9)
    settle(durable)
    assert view(durable, ref).status == "RUNNING"
    bench.clock.advance(2)
    fails_with(durable, ref, "ExecutionTimeoutError")


def test_a_thread_that_timed_out_fails_the_run_while_it_goes_on(bench: Bench, durable: Durable) -> None:
    gate, ends = threading.Event(), list[int]()

    @durable.task(execution_timeout=10)
    def stuck(input: Any, ctx: Context) -> None:
        ends.append(0)
        gate.wait(20)
        ends.append(1)

    ref = stuck.run(wait_for_result=False)
    wait_until(lambda: ends)
    bench.clock.advance(11)
    fails_with(durable, ref, "ExecutionTimeoutError")
    assert ends == [0]
    gate.set()
    wait_until(lambda: ends == [0, 1])
    assert view(durable, ref).status == "FAILED"


def test_a_timed_out_thread_keeps_its_slot_and_its_retry_waits_for_it(bench: Bench) -> None:
    durable = bench.durable(slots=Slots(thread=4))
    gate, attempts, inside = threading.Event(), list[int](), 0

    @durable.task(execution_timeout=10, retries=1)
    def stuck(input: Any, ctx: Context) -> str:
        nonlocal inside
        inside += 1
        assert inside == 1, "the retry ran beside the attempt that cannot be killed"
        attempts.append(ctx.attempt_number)
        if ctx.retry_count == 0:
            gate.wait(20)
        inside -= 1
        return "done"

    ref = stuck.run(wait_for_result=False)
    wait_until(lambda: attempts == [1])
    bench.clock.advance(11)
    settle(durable)
    assert attempts == [1]
    gate.set()
    assert ref.result() == "done"
    assert attempts == [1, 2]


def test_a_durable_tasks_waits_are_not_counted(bench: Bench, durable: Durable) -> None:
    @durable.durable_task(execution_timeout=10)
    async def patient(input: Any, ctx: DurableContext) -> str:
        await ctx.aio_sleep_for(timedelta(hours=1))
        await ctx.aio_wait_for_event("go")
        await asyncio.gather(ctx.aio_sleep_for(timedelta(hours=1)), ctx.aio_wait_for_event("go"))
        return "done"

    ref = patient.run(wait_for_result=False)
    bench.asked(ref, 1)
    bench.clock.advance(3600)
    bench.asked(ref, 2)
    bench.clock.advance(3600)
    durable.event.push("go")
    bench.asked(ref, 4)
    bench.clock.advance(3600)
    durable.event.push("go")
    assert ref.result() == "done"


def test_waiting_for_a_child_is_not_counted(bench: Bench, durable: Durable) -> None:
    gate = threading.Event()

    @durable.task()
    def child(input: Any, ctx: Context) -> str:
        gate.wait(20)
        return "child"

    @durable.durable_task(execution_timeout=10)
    async def parent(input: Any, ctx: DurableContext) -> str:
        return str(await child.aio_run())

    ref = parent.run(wait_for_result=False)
    wait_until(lambda: len(durable.runs.list(parent=ref.workflow_run_id, status="RUNNING")) == 1)
    bench.clock.advance(3600)
    settle(durable)
    gate.set()
    assert ref.result() == "child"


def test_a_durable_tasks_foreign_awaits_are_counted(bench: Bench, durable: Durable) -> None:
    inside = threading.Event()

    @durable.durable_task(execution_timeout=10)
    async def busy(input: Any, ctx: DurableContext) -> None:
        inside.set()
        await asyncio.Event().wait()

    ref = busy.run(wait_for_result=False)
    inside.wait(10)
    bench.clock.advance(11)
    fails_with(durable, ref, "ExecutionTimeoutError")


def test_some_part_at_work_counts_though_others_wait(bench: Bench, durable: Durable) -> None:
    inside, never = threading.Event(), threading.Event()

    @durable.durable_task(execution_timeout=10)
    async def busy(input: Any, ctx: DurableContext) -> None:
        async def work() -> None:
            inside.set()
            await opened(never)

        await asyncio.gather(ctx.aio_sleep_for(timedelta(hours=1)), work())

    ref = busy.run(wait_for_result=False)
    bench.asked(ref, 1)
    inside.wait(10)
    bench.clock.advance(11)
    fails_with(durable, ref, "ExecutionTimeoutError")


def test_a_memo_at_work_counts(bench: Bench, durable: Durable) -> None:
    inside = threading.Event()

    async def work() -> None:
        inside.set()
        await asyncio.Event().wait()

    @durable.durable_task(execution_timeout=10)
    async def busy(input: Any, ctx: DurableContext) -> None:
        await ctx.aio_memo(work)

    ref = busy.run(wait_for_result=False)
    inside.wait(10)
    bench.clock.advance(11)
    fails_with(durable, ref, "ExecutionTimeoutError")


@pytest.mark.parametrize("pause", ["eviction", "close", "crash"])
def test_work_is_summed_over_evictions_restarts_and_crashes(bench: Bench, pause: str) -> None:
    first_gate, second_inside = threading.Event(), threading.Event()
    inside = threading.Event()

    def engine() -> Durable:
        durable = bench.durable()

        @durable.durable_task(execution_timeout=10, eviction_policy=EvictionPolicy(ttl=timedelta(seconds=60)))
        async def busy(input: Any, ctx: DurableContext) -> None:
            if ctx.invocation_count == 1:
                inside.set()
                await opened(first_gate)
            await ctx.aio_wait_for_event("go")
            second_inside.set()
            await asyncio.Event().wait()

        return durable

    durable = engine()
    ref = durable.tasks["busy"].run(wait_for_result=False)
    inside.wait(10)
    bench.clock.advance(6)
    first_gate.set()
    bench.asked(ref, 1)
    if pause == "eviction":
        bench.clock.advance(61)
        reach(durable, ref, lambda run: run.is_evicted)
    else:
        durable.close() if pause == "close" else bench.crash()
        durable = engine()
        bench.clock.advance(61)
    durable.event.push("go")
    second_inside.wait(10)
    bench.clock.advance(3)
    settle(durable)
    assert view(durable, ref).status == "RUNNING"
    bench.clock.advance(2)
    fails_with(durable, durable.runs.get_run_ref(ref.workflow_run_id), "ExecutionTimeoutError")


# ---------------------------------------------------------------- schedule_timeout


def test_a_run_that_stands_too_long_in_the_queue_fails(bench: Bench) -> None:
    durable = bench.durable(slots=Slots(loop=1))
    gate, ran = threading.Event(), list[str]()

    @durable.task(schedule_timeout=30)
    async def hold(input: str, ctx: Context) -> str:
        ran.append(input)
        await opened(gate)
        return input

    first = hold.run("first", wait_for_result=False)
    wait_until(lambda: ran)
    second = hold.run("second", wait_for_result=False)
    bench.clock.advance(29)
    durable.event.push("nothing")
    assert view(durable, second).status == "QUEUED"
    bench.clock.advance(2)
    assert "30s" in fails_with(durable, second, "ScheduleTimeoutError")
    gate.set()
    assert first.result() == "first"
    assert ran == ["first"]


def test_the_queues_time_stands_still_while_no_engine_lives(bench: Bench) -> None:
    gate, ran = threading.Event(), list[str]()

    def engine() -> Durable:
        durable = bench.durable(slots=Slots(loop=1))

        @durable.task(schedule_timeout=30)
        async def hold(input: str, ctx: Context) -> str:
            ran.append(input)
            await opened(gate)
            return input

        return durable

    durable = engine()
    durable.tasks["hold"].run("first", wait_for_result=False)
    wait_until(lambda: ran)
    second = durable.tasks["hold"].run("second", wait_for_result=False)
    durable.close()
    bench.clock.advance(timedelta(days=1))
    gate.set()
    assert engine().runs.get_run_ref(second.workflow_run_id).result() == "second"
