"""Calls from inside regular tasks: children, lent slots, and sync forms that would never return."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from durable_nb import Context, Durable, DurableContext, TaskRunError
from durable_nb.engine.dispatch import Slots
from durable_nb.errors import SyncCallError
from durable_nb.tasks.task import Task
from tests.engine.helpers import Bench, wait_until


def declare_child(durable: Durable) -> Task[Any]:
    @durable.task()
    async def child(input: int, ctx: Context) -> int:
        if input < 0:
            raise ValueError("below zero")
        return input + 1

    return child


def test_a_regular_task_spawns_children_in_both_forms(bench: Bench, durable: Durable) -> None:
    child = declare_child(durable)

    @durable.task()
    async def on_loop(input: int, ctx: Context) -> list[int]:
        ref = await child.aio_run(30, wait_for_result=False)
        items = [child.create_bulk_run_item(input=number) for number in (10, 20)]
        return [await child.aio_run(input), *await child.aio_run_many(items), await ref.aio_result()]

    @durable.task()
    def in_thread(input: int, ctx: Context) -> list[int]:
        ref = child.run(30, wait_for_result=False)
        items = [child.create_bulk_run_item(input=number) for number in (10, 20)]
        return [child.run(input), *child.run_many(items), ref.result()]

    for task in (on_loop, in_thread):
        ref = task.run(1, wait_for_result=False)
        assert ref.result() == [2, 11, 21, 31]
        assert bench.rows("SELECT count(*) FROM v_runs WHERE parent_id = ?", ref.workflow_run_id) == [(4,)]


def test_a_child_knows_its_parent_key_and_index(durable: Durable) -> None:
    @durable.task()
    async def know(input: Any, ctx: Context) -> list[Any]:
        return [ctx.parent_workflow_run_id, ctx.child_key, ctx.child_index]

    @durable.durable_task()
    async def parent(input: Any, ctx: DurableContext) -> Any:
        one = await know.aio_run(child_key="one")
        return [one, *await know.aio_run_many([know.create_bulk_run_item(key="a"), know.create_bulk_run_item(key="b")])]

    ref = parent.run(wait_for_result=False)
    one, first, second = ref.result()
    run = ref.workflow_run_id
    assert one[:2] == [run, "one"]
    assert (first, second) == ([run, "a", 0], [run, "b", 1])


@pytest.mark.parametrize("lane", ["loop", "thread"])
def test_a_waiting_parent_lends_its_slot(bench: Bench, lane: str) -> None:
    durable = bench.durable(slots=Slots(durable=1, loop=1, thread=1))
    if lane == "loop":

        @durable.task(name="down")
        async def down(input: int, ctx: Context) -> int:
            return 0 if input == 0 else 1 + await durable.tasks["down"].aio_run(input - 1)
    else:

        @durable.task(name="down")
        def down_in_thread(input: int, ctx: Context) -> int:
            return 0 if input == 0 else 1 + int(durable.tasks["down"].run(input - 1))

    task = durable.tasks["down"]
    assert task.run(6) == 6
    assert task.run_many([task.create_bulk_run_item(input=3) for _ in range(4)]) == [3] * 4


def test_lent_slots_are_taken_back(bench: Bench) -> None:
    """After a wait, no more tasks work at once than there are slots."""
    durable = bench.durable(slots=Slots(loop=2))
    working, most = 0, 0

    @durable.task()
    async def child(input: Any, ctx: Context) -> None: ...

    @durable.task()
    async def parent(input: Any, ctx: Context) -> None:
        nonlocal working, most
        for _ in range(3):
            working += 1
            most = max(most, working)
            await asyncio.sleep(0.002)
            working -= 1
            await child.aio_run()

    parent.run_many([parent.create_bulk_run_item() for _ in range(12)])
    assert most == 2


def test_no_more_threads_work_than_slots(bench: Bench) -> None:
    durable = bench.durable(slots=Slots(thread=3))
    gate, started = threading.Event(), list[int]()

    @durable.task()
    def hold(input: int, ctx: Context) -> None:
        started.append(input)
        gate.wait(10)

    refs = hold.run_many([hold.create_bulk_run_item(input=number) for number in range(9)], wait_for_result=False)
    wait_until(lambda: len(started) == 3)
    assert len(durable.runs.list(status="RUNNING")) == 3
    assert len(durable.runs.list(status="QUEUED")) == 6
    assert len(started) == 3
    gate.set()
    for ref in refs:
        ref.result()
    assert sorted(started) == list(range(9))


def test_the_childs_failure_reaches_the_parent(durable: Durable) -> None:
    child = declare_child(durable)

    @durable.task()
    async def lets_it_pass(input: Any, ctx: Context) -> None:
        await child.aio_run(-1)

    @durable.task()
    async def catches_it(input: Any, ctx: Context) -> str:
        try:
            await child.aio_run(-1)
        except TaskRunError as error:
            return error.exc_type
        return "nothing"

    assert catches_it.run() == "ValueError"
    with pytest.raises(TaskRunError, match="below zero") as caught:
        lets_it_pass.run()
    assert caught.value.exc_type == "ValueError"


# ---------------------------------------------------------------- sync forms on the engine's thread

SYNC_CALLS: dict[str, tuple[Callable[[Durable, Task[Any]], Any], str]] = {
    "run": (lambda durable, child: child.run(1), "aio_run"),
    "run_without_wait": (lambda durable, child: child.run(1, wait_for_result=False), "aio_run"),
    "run_many": (lambda durable, child: child.run_many([child.create_bulk_run_item(input=1)]), "aio_run_many"),
    "push": (lambda durable, child: durable.event.push("key", {}), "aio_push"),
    "get": (lambda durable, child: durable.runs.get("#1"), "aio_get"),
    "list": (lambda durable, child: durable.runs.list(), "aio_list"),
    "get_run_ref": (lambda durable, child: durable.runs.get_run_ref("#1"), "aio_"),
    "result": (lambda durable, child: durable.runs.ref_to(durable.known).result(), "aio_result"),  # type: ignore[attr-defined]
}


@pytest.mark.parametrize("name", SYNC_CALLS)
@pytest.mark.parametrize("kind", ["task", "durable_task"])
def test_a_sync_form_is_refused_with_the_name_of_its_aio_form(bench: Bench, durable: Durable, kind: str, name: str) -> None:
    call, aio = SYNC_CALLS[name]
    child = declare_child(durable)
    child.run(1)
    durable.known = durable.runs.list()[0]  # type: ignore[attr-defined]

    @getattr(durable, kind)()  # type: ignore[untyped-decorator]
    async def caller(input: Any, ctx: Context) -> str:
        try:
            call(durable, child)
        except SyncCallError as error:
            return str(error)
        return "it went through"

    before = bench.count("run")
    assert aio in caller.run()
    assert bench.count("run") == before + 1  # the caller's
    assert bench.count("event") == 0
