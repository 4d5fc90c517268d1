"""Eviction: a waiting run costs no slot, and never a deadlock."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest

from durable_nb import Context, Durable, DurableContext, EvictionPolicy
from durable_nb.engine.dispatch import Slots
from durable_nb.tasks.task import Task
from tests.engine.helpers import Bench, opened, reach, settle, view, wait_until

MINUTE = timedelta(minutes=1)


def waiter(durable: Durable, said: list[str] | None = None, name: str = "wait", **options: Any) -> Task[Any]:
    said = [] if said is None else said

    @durable.durable_task(name=name, **options)
    async def wait(input: Any, ctx: DurableContext) -> list[int]:
        said.append("in")
        try:
            await ctx.aio_wait_for_event("go")
        finally:
            said.append("out")
        return [ctx.invocation_count, ctx.retry_count]

    return wait


def waiting(bench: Bench, task: Task[Any]) -> Any:
    ref = task.run(wait_for_result=False)
    bench.asked(ref, 1)
    return ref


@pytest.mark.parametrize(("policy", "minutes"), [(EvictionPolicy(ttl=MINUTE), 1), (EvictionPolicy(), 15)])
def test_a_run_is_evicted_when_it_has_waited_for_its_ttl(
    bench: Bench, durable: Durable, policy: EvictionPolicy, minutes: int
) -> None:
    said: list[str] = []
    ref = waiting(bench, waiter(durable, said, eviction_policy=policy))
    settle(durable)
    bench.clock.advance(minutes * 60 - 1)
    settle(durable)
    assert not view(durable, ref).is_evicted
    bench.clock.advance(1)
    run = reach(durable, ref, lambda run: run.is_evicted, "eviction")
    assert (run.status, run.invocation_count, run.retry_count) == ("RUNNING", 1, 0)
    wait_until(lambda: said == ["in", "out"])
    durable.event.push("go")
    assert ref.result() == [2, 0]
    assert said == ["in", "out", "in", "out"]
    run = view(durable, ref)
    assert (run.status, run.is_evicted, run.retry_count) == ("COMPLETED", False, 0)


@pytest.mark.parametrize("policy", [None, EvictionPolicy(ttl=None)])
def test_without_a_ttl_age_never_evicts(bench: Bench, durable: Durable, policy: EvictionPolicy | None) -> None:
    ref = waiting(bench, waiter(durable, eviction_policy=policy))
    short = waiting(bench, waiter(durable, name="short", eviction_policy=EvictionPolicy(ttl=MINUTE)))
    settle(durable)
    bench.clock.advance(timedelta(days=30))
    reach(durable, short, lambda run: run.is_evicted)
    assert not view(durable, ref).is_evicted
    durable.event.push("go")
    assert ref.result() == [1, 0]


def test_work_in_flight_is_never_evicted(bench: Bench, durable: Durable) -> None:
    gate, inside = threading.Event(), list[str]()

    def work() -> None:
        inside.append("memo")
        gate.wait(10)

    @durable.durable_task(eviction_policy=EvictionPolicy(ttl=MINUTE))
    async def memo(input: Any, ctx: DurableContext) -> int:
        await ctx.aio_memo(work)
        return ctx.invocation_count

    @durable.durable_task(eviction_policy=EvictionPolicy(ttl=MINUTE))
    async def foreign(input: Any, ctx: DurableContext) -> int:
        inside.append("foreign")
        await opened(gate)
        return ctx.invocation_count

    refs = [memo.run(wait_for_result=False), foreign.run(wait_for_result=False)]
    wait_until(lambda: len(inside) == 2)
    short = waiting(bench, waiter(durable, eviction_policy=EvictionPolicy(ttl=MINUTE)))
    settle(durable)
    bench.clock.advance(timedelta(hours=1))
    reach(durable, short, lambda run: run.is_evicted)
    assert [view(durable, ref).is_evicted for ref in refs] == [False, False]
    gate.set()
    assert [ref.result() for ref in refs] == [1, 1]


def test_an_evicted_run_that_is_evicted_again_and_again_ends(bench: Bench, durable: Durable) -> None:
    @durable.durable_task(eviction_policy=EvictionPolicy(ttl=MINUTE))
    async def steps(input: Any, ctx: DurableContext) -> int:
        total = 0
        for _ in range(5):
            total += int(await ctx.aio_wait_for_event("go"))
        return total

    ref = steps.run(wait_for_result=False)
    for number in range(5):
        bench.asked(ref, number + 1)
        settle(durable)
        bench.clock.advance(2 * MINUTE)
        reach(durable, ref, lambda run: run.is_evicted)
        durable.event.push("go", 1)
    assert ref.result() == 5
    assert view(durable, ref).invocation_count == 6


# ---------------------------------------------------------------- capacity


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_waiting_parents_make_room_for_their_children(bench: Bench, slots: int) -> None:
    durable = bench.durable(slots=Slots(durable=slots))

    @durable.durable_task()
    async def tree(input: int, ctx: DurableContext) -> int:
        task = durable.tasks["tree"]
        if input == 0:
            return 1
        return sum(await task.aio_run_many([task.create_bulk_run_item(input=input - 1) for _ in range(2)]))

    assert tree.run_many([tree.create_bulk_run_item(input=3) for _ in range(4)]) == [8] * 4


def test_capacity_evicts_the_lowest_priority_first(bench: Bench) -> None:
    durable = bench.durable(slots=Slots(durable=2))
    high = waiting(bench, waiter(durable, name="high", eviction_policy=EvictionPolicy(priority=5)))
    low = waiting(bench, waiter(durable, name="low", eviction_policy=EvictionPolicy(priority=1)))
    third = waiting(bench, waiter(durable, name="third"))
    assert view(durable, low).is_evicted
    assert not view(durable, high).is_evicted
    assert not view(durable, third).is_evicted


def test_among_equals_the_longest_waiting_goes_first(bench: Bench) -> None:
    durable = bench.durable(slots=Slots(durable=2))
    task = waiter(durable)
    first = waiting(bench, task)
    settle(durable)
    bench.clock.advance(1)
    second = waiting(bench, task)
    settle(durable)
    bench.clock.advance(1)
    waiting(bench, task)
    assert view(durable, first).is_evicted
    assert not view(durable, second).is_evicted


@pytest.mark.parametrize("policy", [None, EvictionPolicy(allow_capacity_eviction=False)])
def test_no_room_is_made_where_capacity_eviction_is_refused(bench: Bench, policy: EvictionPolicy | None) -> None:
    durable = bench.durable(slots=Slots(durable=1))
    task = waiter(durable, eviction_policy=policy)
    first = waiting(bench, task)
    second = task.run(wait_for_result=False)
    settle(durable)
    assert (view(durable, first).is_evicted, view(durable, second).status) == (False, "QUEUED")
    durable.event.push("go")
    first.result()
    bench.asked(second, 1)


def test_many_more_runs_than_slots(bench: Bench) -> None:
    durable = bench.durable(slots=Slots(durable=3))
    task = waiter(durable)
    refs = task.run_many([task.create_bulk_run_item() for _ in range(40)], wait_for_result=False)
    for ref in refs:
        bench.asked(ref, 1)
    durable.event.push("go")
    for ref in refs:
        assert ref.result()[1] == 0


def test_eviction_tells_nobody_but_the_run(bench: Bench, durable: Durable, caplog: pytest.LogCaptureFixture) -> None:
    """A task group that is evicted leaves no complaint about exceptions that nobody retrieved."""
    import asyncio
    import gc

    @durable.task()
    async def child(input: Any, ctx: Context) -> None: ...

    @durable.durable_task(eviction_policy=EvictionPolicy(ttl=MINUTE))
    async def grouped(input: Any, ctx: DurableContext) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(ctx.aio_wait_for_event("go"))

    ref = grouped.run(wait_for_result=False)
    bench.asked(ref, 2)
    settle(durable)
    bench.clock.advance(2 * MINUTE)
    reach(durable, ref, lambda run: run.is_evicted)
    durable.event.push("go")
    ref.result()
    durable.close()
    gc.collect()
    assert [record.getMessage() for record in caplog.records if "never retrieved" in record.getMessage()] == []
