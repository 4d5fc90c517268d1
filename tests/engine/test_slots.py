"""Slots: none is lost, none is made, and a run never waits for one that it holds itself."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from durable_nb import Context, Durable, DurableContext, TaskRunError
from durable_nb.engine.dispatch import Slots
from tests.engine.helpers import Bench, opened, reach, view, wait_until

ONE_EACH = Slots(durable=1, loop=1, thread=1)


def free(durable: Durable) -> dict[str, int]:
    return {lane: durable.engine.dispatcher._free[lane] for lane in ("durable", "loop", "thread")}


def all_free(durable: Durable) -> Callable[[], bool]:
    return lambda: free(durable) == {"durable": 1, "loop": 1, "thread": 1}


def test_a_refused_child_takes_no_slot(bench: Bench) -> None:
    durable = bench.durable(slots=ONE_EACH)

    @durable.task()
    async def child(input: Any, ctx: Context) -> int:
        return 1

    @durable.durable_task()
    async def parent(input: Any, ctx: DurableContext) -> None:
        with pytest.raises(TaskRunError, match="makes no others"):
            await ctx.aio_memo(child.aio_run)

    for _ in range(5):
        parent.run()
        wait_until(all_free(durable))
    assert child.run() == 1


def test_a_task_that_is_run_after_its_redefinition_in_another_lane_gives_its_own_slot_back(bench: Bench) -> None:
    durable = bench.durable(slots=ONE_EACH)

    @durable.task(name="task")
    def in_thread(input: Any, ctx: Context) -> str:
        return "old"

    @durable.task(name="task")
    async def on_loop(input: Any, ctx: Context) -> str:
        return "new"

    assert in_thread.run() == "new"
    wait_until(all_free(durable))


def test_a_parent_that_waits_for_many_lends_its_one_slot_once(bench: Bench) -> None:
    durable = bench.durable(slots=Slots(durable=1, loop=2, thread=1))
    running, most, gate = set[int](), [0], threading.Event()

    @durable.task()
    async def leaf(input: int, ctx: Context) -> None:
        running.add(input)
        most.append(len(running))
        await opened(gate)
        running.discard(input)

    @durable.task()
    async def parent(input: Any, ctx: Context) -> None:
        await asyncio.gather(*[leaf.aio_run(number) for number in range(6)])

    ref = parent.run(wait_for_result=False)
    wait_until(lambda: bench.count("run") == 7 and len(running) >= 2)
    gate.set()
    ref.result()
    assert max(most) == 2
    wait_until(lambda: free(durable)["loop"] == 2)


def test_a_time_out_while_waiting_to_take_a_slot_back_makes_none(bench: Bench) -> None:
    durable = bench.durable(slots=ONE_EACH)
    gates = {"child": threading.Event(), "other": threading.Event()}

    @durable.task()
    async def child(input: str, ctx: Context) -> None:
        if input == "child":
            ctx.release_slot()  # so that the other has it when the parent wants its own back
        await opened(gates[input])

    @durable.task(execution_timeout=60)
    async def parent(input: Any, ctx: Context) -> None:
        await child.aio_run("child")

    ref = parent.run(wait_for_result=False)
    wait_until(lambda: bench.count("run") == 2)
    other = child.run("other", wait_for_result=False)
    reach(durable, other, lambda run: run.status == "RUNNING")
    gates["child"].set()
    wait_until(lambda: durable.engine.dispatcher._returning["loop"])
    bench.clock.advance(61)
    with pytest.raises(TaskRunError, match="execution_timeout"):
        ref.result()
    gates["other"].set()
    other.result()
    wait_until(all_free(durable))


def test_after_a_retry_that_cut_its_branch_a_parent_still_makes_room_for_its_child(bench: Bench) -> None:
    durable = bench.durable(slots=ONE_EACH)

    @durable.task()
    async def fail(input: Any, ctx: Context) -> None:
        raise ValueError

    @durable.durable_task()
    async def child(input: Any, ctx: DurableContext) -> str:
        return "done"

    @durable.durable_task(retries=1)
    async def parent(input: Any, ctx: DurableContext) -> str:
        return str(await (child if ctx.retry_count else fail).aio_run())

    assert parent.run() == "done"


def test_a_run_that_moves_again_before_its_turn_is_not_evicted(bench: Bench, durable: Durable) -> None:
    entered, gate = threading.Event(), threading.Event()

    @durable.durable_task()
    async def waiting(input: Any, ctx: DurableContext) -> None:
        await ctx.aio_wait_for_event("go")
        entered.set()
        await opened(gate)

    ref = waiting.run(wait_for_result=False)
    bench.asked(ref, 1)
    durable.event.push("go")
    assert entered.wait(10)
    engine = durable.engine
    [execution] = engine.executions.values()
    assert durable.call(lambda: engine.dispatcher.evict(execution), aio="") is False
    gate.set()
    ref.result()
    assert view(durable, ref).invocation_count == 1


def test_a_run_that_finds_a_slot_as_its_queue_time_ends_is_executed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    durable = bench.durable(slots=ONE_EACH)
    gate = threading.Event()

    @durable.task(schedule_timeout=timedelta(seconds=5))
    async def task(input: Any, ctx: Context) -> str:
        await opened(gate)
        return "done"

    first, second = task.run(wait_for_result=False), task.run(wait_for_result=False)
    engine, refused = durable.engine, threading.Event()
    end = engine.end_unowned

    async def end_late(number: int, epoch: int, *rest: Any) -> None:
        gate.set()
        await asyncio.to_thread(wait_until, lambda: (number,) in bench.rows("SELECT number FROM run WHERE status <> 'QUEUED'"))
        refused.set()
        await end(number, epoch, *rest)

    monkeypatch.setattr(engine, "end_unowned", end_late)
    bench.clock.advance(6)
    assert refused.wait(10)
    assert first.result() == second.result() == "done"
    assert engine.failure is None
