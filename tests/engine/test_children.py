"""Children of durable tasks: spawned once, whatever happens to the parent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from durable_nb import Context, Durable, DurableContext, TaskRunError
from durable_nb.errors import ChildKeyConflictError, InputValidationError
from durable_nb.tasks.task import Task
from tests.engine.helpers import Bench, settle, wait_until


class Program:
    """A durable parent with one body, its children, and how often each of those ran; survives its engine."""

    def __init__(self, bench: Bench, body: Callable[[Program, DurableContext], Any]) -> None:
        self.bench = bench
        self.body = body
        self.ran: list[int] = []
        self.seen: list[Any] = []
        self.durable = self.engine()
        self.run = self.durable.tasks["parent"].run(wait_for_result=False)

    def engine(self) -> Durable:
        durable = self.bench.durable()

        @durable.task()
        async def child(input: int, ctx: Context) -> int:
            self.ran.append(input)
            if input < 0:
                raise ValueError(f"{input} is below zero")
            return input * 10

        @durable.task()
        async def other(input: int, ctx: Context) -> int:
            self.ran.append(input)
            return input

        @durable.durable_task()
        async def nested(input: int, ctx: DurableContext) -> int:
            return input if input == 0 else 1 + int(await durable.tasks["nested"].aio_run(input - 1))

        @durable.durable_task()
        async def parent(input: Any, ctx: DurableContext) -> None:
            self.seen.append(await self.body(self, ctx))
            await ctx.aio_wait_for_event("end")

        self.child: Task[Any] = child
        self.other: Task[Any] = other
        self.nested: Task[Any] = nested
        return durable

    def live_and_replayed(self) -> Any:
        """Let the body run, close the engine, open another, end the run; give what the body gave, both times the same."""
        wait_until(lambda: self.bench.open_waits(self.run) == ["end"])
        self.durable.close()
        self.durable = self.engine()
        settle(self.durable)
        self.durable.event.push("end")
        self.durable.runs.get_run_ref(self.run.workflow_run_id).result()
        live, replayed = self.seen
        assert replayed == live
        return live

    @property
    def children(self) -> int:
        [(count,)] = self.bench.rows("SELECT count(*) FROM v_runs WHERE parent_id = ?", self.run.workflow_run_id)
        return int(count)


def test_single_children(bench: Bench) -> None:
    async def body(program: Program, ctx: DurableContext) -> Any:
        return [await program.child.aio_run(1), await ctx.aio_run_child(program.child, 2), await program.child.aio_run(1)]

    program = Program(bench, body)
    assert program.live_and_replayed() == [10, 20, 10]
    assert program.ran == [1, 2, 1]
    assert program.children == 3


def test_bulk_children_take_a_node_each_and_come_in_the_order_asked(bench: Bench) -> None:
    async def body(program: Program, ctx: DurableContext) -> Any:
        return await program.child.aio_run_many(
            [program.child.create_bulk_run_item(input=number, key=key) for number, key in ((3, "z"), (1, "a"), (2, "m"))]
        )

    program = Program(bench, body)
    assert program.live_and_replayed() == [30, 10, 20]
    assert sorted(program.ran) == [1, 2, 3]
    assert [node for _, node, _ in bench.asks(program.run)] == [1, 2, 3, 4]


def test_durable_children_of_durable_children(bench: Bench) -> None:
    async def body(program: Program, ctx: DurableContext) -> Any:
        return await program.nested.aio_run(4)

    assert Program(bench, body).live_and_replayed() == 4


def test_a_child_without_wait_and_its_result_later(bench: Bench) -> None:
    async def body(program: Program, ctx: DurableContext) -> Any:
        ref = await program.child.aio_run(1, wait_for_result=False)
        refs = await program.child.aio_run_many(
            [program.child.create_bulk_run_item(input=number) for number in (2, 3)], wait_for_result=False
        )
        return [ref.workflow_run_id, await ref.aio_result(), await refs[1], await refs[0].aio_result()]

    program = Program(bench, body)
    run, *results = program.live_and_replayed()
    assert results == [10, 30, 20]
    assert sorted(program.ran) == [1, 2, 3]
    assert program.children == 3
    assert program.durable.runs.get(run).status == "COMPLETED"


def test_a_failing_child_is_one_error_live_and_replayed(bench: Bench) -> None:
    async def body(program: Program, ctx: DurableContext) -> Any:
        await program.child.aio_run(1)
        try:
            await program.child.aio_run(-1)
        except TaskRunError as error:
            return [error.exc_type, error.exc, error.node_id, error.task_run_external_id, "in child" in error.trace]

    program = Program(bench, body)
    exc_type, exc, node, run, has_trace = program.live_and_replayed()
    assert (exc_type, exc, node, has_trace) == ("ValueError", "-1 is below zero", 2, True)
    assert program.durable.runs.get(run).task == "child"
    assert program.ran == [1, -1]


def test_bulk_outcomes_as_values(bench: Bench) -> None:
    async def body(program: Program, ctx: DurableContext) -> Any:
        items = [program.child.create_bulk_run_item(input=number) for number in (1, -1, 2)]
        return [str(result) for result in await program.child.aio_run_many(items, return_exceptions=True)]

    assert Program(bench, body).live_and_replayed() == ["10", "ValueError: -1 is below zero", "20"]


def test_gathered_children(bench: Bench) -> None:
    async def body(program: Program, ctx: DurableContext) -> Any:
        return await asyncio.gather(*(program.child.aio_run(number) for number in range(20)))

    program = Program(bench, body)
    assert program.live_and_replayed() == [10 * number for number in range(20)]
    assert sorted(program.ran) == list(range(20))


# ---------------------------------------------------------------- keys


def test_the_same_key_is_the_same_child(bench: Bench) -> None:
    async def body(program: Program, ctx: DurableContext) -> Any:
        first = await program.child.aio_run(1, child_key="one")
        again = await program.child.aio_run(1, child_key="one")
        ref = await program.child.aio_run(1, child_key="one", wait_for_result=False)
        return [first, again, await ref.aio_result(), await program.child.aio_run(1)]

    program = Program(bench, body)
    assert program.live_and_replayed() == [10, 10, 10, 10]
    assert program.ran == [1, 1]
    assert program.children == 2


@pytest.mark.parametrize("conflict", ["input", "task", "bulk"])
def test_the_same_key_for_something_else_is_an_error(bench: Bench, conflict: str) -> None:
    async def body(program: Program, ctx: DurableContext) -> Any:
        await program.child.aio_run(1, child_key="one")
        with pytest.raises(ChildKeyConflictError, match="one"):
            if conflict == "input":
                await program.child.aio_run(2, child_key="one")
            elif conflict == "task":
                await program.other.aio_run(1, child_key="one")
            else:
                await program.child.aio_run_many([program.child.create_bulk_run_item(input=2, key="one")])
        return "refused"

    program = Program(bench, body)
    assert program.live_and_replayed() == "refused"
    assert program.ran == [1]
    assert program.children == 1


# ---------------------------------------------------------------- bad input


def test_a_bad_input_writes_neither_checkpoint_nor_child(bench: Bench) -> None:
    async def body(program: Program, ctx: DurableContext) -> Any:
        with pytest.raises(InputValidationError, match="child"):
            await program.child.aio_run("one")
        with pytest.raises(InputValidationError, match="child"):
            await program.child.aio_run_many([program.child.create_bulk_run_item(input=value) for value in (1, "two")])
        return await program.child.aio_run(3)

    program = Program(bench, body)
    assert program.live_and_replayed() == 30
    assert program.children == 1
    assert [node for _, node, _ in bench.asks(program.run)] == [1, 2]
