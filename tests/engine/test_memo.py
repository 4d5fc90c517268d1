"""Memos: a side effect's outcome, recorded once, decoded from the log even the first time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel

from durable_nb import Durable, DurableContext, TaskRunError
from durable_nb.tasks.task import Task
from tests.engine.helpers import Bench


class Price(BaseModel):
    amount: float


@dataclass
class Pair:
    left: int
    right: int


def twice(bench: Bench, body: Callable[[DurableContext], Any]) -> tuple[list[Any], Bench]:
    """Run a body live and replayed (it waits for the event at its end); give what it saw each time."""
    seen: list[Any] = []

    def engine() -> tuple[Durable, Task[Any]]:
        durable = bench.durable()

        @durable.durable_task()
        async def task(input: Any, ctx: DurableContext) -> None:
            try:
                seen.append(await body(ctx))
            except TaskRunError as error:
                seen.append((error.exc_type, error.exc, error.node_id))
            await ctx.aio_wait_for_event("end")

        return durable, task

    first, task = engine()
    ref = task.run(wait_for_result=False)
    from tests.engine.helpers import wait_until

    wait_until(lambda: bench.open_waits(ref) == ["end"])
    first.close()
    second, _ = engine()
    second.event.push("end")
    second.runs.get_run_ref(ref.workflow_run_id).result()
    return seen, bench


def test_a_sync_function_runs_once(bench: Bench) -> None:
    calls: list[int] = []

    def read(number: int, *, by: int) -> int:
        calls.append(number)
        return number * by

    seen, _ = twice(bench, lambda ctx: ctx.aio_memo(read, int, 3, by=4))
    assert seen == [12, 12]
    assert calls == [3]


def test_an_async_function_runs_once(bench: Bench) -> None:
    calls: list[int] = []

    async def read(number: int) -> int:
        calls.append(number)
        return number

    seen, _ = twice(bench, lambda ctx: ctx.aio_memo(read, int, 3))
    assert seen == [3, 3]
    assert calls == [3]


def test_a_failure_is_an_outcome(bench: Bench) -> None:
    calls: list[int] = []

    def read() -> int:
        calls.append(1)
        raise OSError("busy")

    seen, _ = twice(bench, lambda ctx: ctx.aio_memo(read))
    assert seen == [("OSError", "busy", 1)] * 2
    assert calls == [1]


@pytest.mark.parametrize(
    ("made", "result_type", "given"),
    [
        ((1, 2), Any, [1, 2]),
        ({1: "a"}, Any, {"1": "a"}),
        (Price(amount=1.5), Price, Price(amount=1.5)),
        ({"amount": 2}, Price, Price(amount=2.0)),
        (Pair(1, 2), Pair, Pair(1, 2)),
        ((1, 2), tuple[int, int], (1, 2)),
        (None, Any, None),
    ],
)
def test_the_value_is_decoded_the_first_time_too(bench: Bench, made: object, result_type: Any, given: object) -> None:
    seen, _ = twice(bench, lambda ctx: ctx.aio_memo(lambda: made, result_type))
    assert seen == [given, given]
    assert [type(value) for value in seen] == [type(given)] * 2


def test_a_value_that_json_cannot_hold_is_the_memos_failure(bench: Bench) -> None:
    seen, _ = twice(bench, lambda ctx: ctx.aio_memo(lambda: object()))  # noqa: PLW0108
    assert [outcome[0] for outcome in seen] == ["IllegalTaskOutputError"] * 2


def test_the_same_memo_twice_is_two_checkpoints(bench: Bench) -> None:
    calls: list[int] = []

    def draw() -> int:
        calls.append(1)
        return len(calls)

    async def body(ctx: DurableContext) -> list[int]:
        return [await ctx.aio_memo(draw), await ctx.aio_memo(draw)]

    seen, _ = twice(bench, body)
    assert seen == [[1, 2], [1, 2]]
    assert len(calls) == 2


def test_a_memo_is_one_row_with_its_functions_name(bench: Bench, durable: Durable) -> None:
    @durable.durable_task()
    async def task(input: Any, ctx: DurableContext) -> Any:
        return await ctx.aio_memo(max, int, 1, 2)

    ref = task.run(wait_for_result=False)
    assert ref.result() == 2
    [(branch, node, ask)] = bench.asks(ref)
    assert (branch, node) == (1, 1)
    assert "max" in ask


def test_a_memo_in_flight_at_a_crash_runs_again(bench: Bench) -> None:
    import threading

    gate, calls = threading.Event(), list[int]()

    def slow() -> str:
        calls.append(1)
        if len(calls) == 1:
            gate.wait(10)
        return "done"

    def engine() -> tuple[Durable, Task[Any]]:
        durable = bench.durable()

        @durable.durable_task()
        async def task(input: Any, ctx: DurableContext) -> Any:
            return await ctx.aio_memo(slow)

        return durable, task

    from tests.engine.helpers import wait_until

    _, task = engine()
    ref = task.run(wait_for_result=False)
    wait_until(lambda: calls)
    bench.crash()
    second, _ = engine()
    assert second.runs.get_run_ref(ref.workflow_run_id).result() == "done"
    assert len(calls) == 2
    gate.set()
