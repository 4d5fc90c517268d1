"""Running tasks from scripts, event loops and threads: the same answer by every form."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from durable_nb import Context, Durable, DurableContext, RunRef, TaskRunError
from durable_nb.errors import FailedTaskRunExceptionGroup, UnknownRunError
from durable_nb.tasks.task import Task
from tests.engine.helpers import Bench, reach, view, wait_until


def declare_double(durable: Durable, shape: str) -> Task[Any]:
    if shape == "thread":

        @durable.task(name="double")
        def in_thread(input: int, ctx: Context) -> int:
            return 2 * input

        return in_thread
    if shape == "loop":

        @durable.task(name="double")
        async def on_loop(input: int, ctx: Context) -> int:
            return 2 * input

        return on_loop

    @durable.durable_task(name="double")
    async def checkpointed(input: int, ctx: DurableContext) -> int:
        return 2 * input

    return checkpointed


@pytest.fixture(params=["thread", "loop", "durable"])
def double(request: pytest.FixtureRequest, durable: Durable) -> Task[Any]:
    return declare_double(durable, request.param)


def declare_picky(durable: Durable) -> Task[Any]:
    @durable.task()
    async def picky(input: int, ctx: Context) -> int:
        if input < 0:
            raise ValueError(f"{input} is below zero")
        return input

    return picky


# ---------------------------------------------------------------- one run


def sync_run(task: Task[Any]) -> Any:
    return task.run(21)


def async_run(task: Task[Any]) -> Any:
    return asyncio.run(task.aio_run(21))


def sync_ref(task: Task[Any]) -> Any:
    return task.run(21, wait_for_result=False).result()


def awaited_ref(task: Task[Any]) -> Any:
    async def main() -> Any:
        return await (await task.aio_run(21, wait_for_result=False))

    return asyncio.run(main())


def aio_ref(task: Task[Any]) -> Any:
    async def main() -> Any:
        return await (await task.aio_run(21, wait_for_result=False)).aio_result()

    return asyncio.run(main())


def sync_run_on_a_foreign_loop(task: Task[Any]) -> Any:
    async def main() -> Any:
        return task.run(21)

    return asyncio.run(main())


def in_another_thread(task: Task[Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(task.run, 21).result()


@pytest.mark.parametrize(
    "form", [sync_run, async_run, sync_ref, awaited_ref, aio_ref, sync_run_on_a_foreign_loop, in_another_thread]
)
def test_every_form_gives_the_output(double: Task[Any], form: Callable[[Task[Any]], Any]) -> None:
    assert form(double) == 42


def test_a_ref_leads_to_the_run(durable: Durable, double: Task[Any]) -> None:
    ref = double.run(4, wait_for_result=False)
    assert isinstance(ref, RunRef)
    assert ref.result() == ref.result() == 8  # as often as one likes
    run = view(durable, ref)
    assert (run.id, run.task, run.status, run.output) == (ref.workflow_run_id, "double", "COMPLETED", "8")
    assert durable.runs.get_run_ref(ref.workflow_run_id).result() == 8
    assert durable.runs.get(f"#{run.number}").id == run.id
    assert asyncio.run(durable.runs.aio_get_result(ref.workflow_run_id)) == 8
    assert [listed.id for listed in durable.runs.list(task="double", status="COMPLETED")] == [run.id]
    assert durable.runs.list(status="FAILED") == []


def test_runs_from_many_threads_do_not_meet(double: Task[Any]) -> None:
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(double.run, range(100))) == [2 * number for number in range(100)]


def test_an_unknown_run_is_a_sentence(durable: Durable, double: Task[Any]) -> None:
    double.run(1)
    for unknown in ("nobody", "#99", ""):
        with pytest.raises(UnknownRunError):
            durable.runs.get(unknown)
    with pytest.raises(UnknownRunError, match="nobody"):
        asyncio.run(durable.runs.aio_retake("nobody"))


def test_to_stop_waiting_does_not_stop_the_run(durable: Durable) -> None:
    gate, ends = threading.Event(), list[int]()

    @durable.task()
    def slow(input: int, ctx: Context) -> int:
        gate.wait(10)
        ends.append(input)
        return input

    async def main() -> str:
        ref = await slow.aio_run(1, wait_for_result=False)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ref.aio_result(), 0.01)
        return ref.workflow_run_id

    run = asyncio.run(main())
    gate.set()
    assert durable.runs.get_run_ref(run).result() == 1
    assert ends == [1]


# ---------------------------------------------------------------- failures


def test_a_failed_run_raises_one_error_that_tells_all(durable: Durable) -> None:
    picky = declare_picky(durable)
    ref = picky.run(-1, wait_for_result=False)
    for wait in (ref.result, lambda: asyncio.run(ref.aio_result())):
        with pytest.raises(TaskRunError) as caught:
            wait()
        error = caught.value
        assert (error.exc, error.exc_type) == ("-1 is below zero", "ValueError")
        assert error.task_run_external_id == ref.workflow_run_id
        assert "in picky" in error.trace and "-1 is below zero" in error.trace
        assert str(error) == "ValueError: -1 is below zero"
    run = view(durable, ref)
    assert run.status == "FAILED"
    assert run.error is not None and run.error.type == "ValueError"


# ---------------------------------------------------------------- many runs


def test_many_runs_come_in_the_order_asked(bench: Bench, double: Task[Any]) -> None:
    items = [double.create_bulk_run_item(input=number) for number in range(40)]
    assert double.run_many(items) == [2 * number for number in range(40)]
    assert asyncio.run(double.aio_run_many(items)) == [2 * number for number in range(40)]
    assert double.run_many([]) == []
    assert bench.count("run") == 80


def test_many_refs_come_in_the_order_asked(bench: Bench, double: Task[Any]) -> None:
    refs = double.run_many([double.create_bulk_run_item(input=number) for number in range(5)], wait_for_result=False)
    assert [ref.result() for ref in refs] == [0, 2, 4, 6, 8]
    assert len({ref.workflow_run_id for ref in refs}) == 5


def test_one_failure_of_many_is_one_error_and_several_are_a_group(durable: Durable) -> None:
    picky = declare_picky(durable)

    def many(*numbers: int, **options: Any) -> list[Any]:
        return picky.run_many([picky.create_bulk_run_item(input=number) for number in numbers], **options)

    with pytest.raises(TaskRunError, match="-2 is below zero"):
        many(1, -2, 3)
    with pytest.raises(FailedTaskRunExceptionGroup) as caught:
        many(-1, 2, -3)
    assert [error.exc for error in caught.value.exceptions if isinstance(error, TaskRunError)] == [
        "-1 is below zero",
        "-3 is below zero",
    ]
    first, second, third = many(-1, 2, -3, return_exceptions=True)
    assert isinstance(first, TaskRunError) and isinstance(third, TaskRunError)
    assert second == 2


# ---------------------------------------------------------------- metadata


def test_metadata_is_the_tasks_default_under_the_explicit(durable: Durable) -> None:
    @durable.task(default_additional_metadata={"team": "data", "tier": "free"})
    async def told(input: Any, ctx: Context) -> dict[str, Any]:
        return ctx.additional_metadata

    assert told.run() == {"team": "data", "tier": "free"}
    assert told.run(additional_metadata={"tier": "paid", "n": 1}) == {"team": "data", "tier": "paid", "n": 1}


@pytest.mark.parametrize("kind", ["task", "durable_task"])
def test_metadata_flows_from_parent_to_child(durable: Durable, kind: str) -> None:
    @durable.task(default_additional_metadata={"b": "child", "c": "child", "d": "child"})
    async def child(input: Any, ctx: Context) -> dict[str, Any]:
        return ctx.additional_metadata

    @getattr(durable, kind)(default_additional_metadata={"a": "default", "b": "default"})  # type: ignore[untyped-decorator]
    async def parent(input: Any, ctx: Context) -> Any:
        return [
            await child.aio_run(additional_metadata={"c": "explicit"}),
            *await child.aio_run_many([child.create_bulk_run_item(additional_metadata={"d": "explicit"})]),
        ]

    assert parent.run(additional_metadata={"a": "given"}) == [
        {"a": "given", "b": "child", "c": "explicit", "d": "child"},
        {"a": "given", "b": "child", "c": "child", "d": "explicit"},
    ]


# ---------------------------------------------------------------- what a task knows of its run


def test_a_task_knows_its_run(durable: Durable) -> None:
    seen: dict[str, Any] = {}

    @durable.task(retries=4)
    async def know(input: Any, ctx: Context) -> None:
        ctx.log("here")
        seen.update(
            id=ctx.workflow_run_id, input=ctx.input, retry=ctx.retry_count, attempt=ctx.attempt_number, most=ctx.max_attempts,
            entries=ctx.invocation_count, parent=ctx.parent_workflow_run_id, key=ctx.child_key,
        )  # fmt: skip

    ref = know.run({"a": 1}, wait_for_result=False)
    ref.result()
    assert (seen["id"], seen["input"], seen["parent"], seen["key"]) == (ref.workflow_run_id, {"a": 1}, None, None)
    assert (seen["retry"], seen["attempt"], seen["most"], seen["entries"]) == (0, 1, 5, 1)


def test_a_run_of_a_task_that_is_gone_stays_queued(bench: Bench) -> None:
    first = bench.durable()
    gate = threading.Event()

    @first.task()
    def held(input: Any, ctx: Context) -> None:
        gate.wait(10)

    ref = held.run(wait_for_result=False)
    reach(first, ref, lambda run: run.status == "RUNNING")
    gate.set()
    first.close()
    second = bench.durable()
    wait_until(lambda: view(second, ref).status in {"QUEUED", "RUNNING", "COMPLETED"})
    assert view(second, ref).status != "FAILED"
