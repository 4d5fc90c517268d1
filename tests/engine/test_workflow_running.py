"""Runs of workflows: outputs of parents, failures and what runs after them, retries, workflows as children."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel

from durable_nb import Context, Durable, DurableContext, NonRetryableException, ParentOutputError, RunCancelledError, TaskRunError
from durable_nb.engine.dispatch import Slots
from durable_nb.errors import FailedTaskRunExceptionGroup
from durable_nb.log.records import Failure, Outcome
from durable_nb.tasks.workflow import Workflow
from tests.engine.helpers import Bench, opened, wait_until


class Rows(BaseModel):
    rows: int


@dataclass
class Sum:
    total: int


@pytest.fixture
def etl(durable: Durable) -> Workflow:
    return durable.workflow(name="etl")


def kinds(bench: Bench) -> list[str]:
    """What the first run asked, by kind and words."""
    return [f"{kind} {ask}" for kind, ask in bench.rows("SELECT kind, ask FROM checkpoint WHERE run = 1 ORDER BY branch, node")]


def test_outputs_of_parents_come_as_their_types(etl: Workflow) -> None:
    @etl.task()
    def extract(input: Any, ctx: Context) -> Rows:
        return Rows(rows=3)

    @etl.durable_task(parents=[extract])
    async def double(input: Any, ctx: DurableContext) -> Sum:
        return Sum(await ctx.aio_memo(lambda: ctx.task_output(extract).rows * 2, int))

    @etl.task(parents=[extract, double])
    async def both(input: Any, ctx: Context) -> list[Any]:
        assert isinstance(ctx.task_output(extract), Rows)
        assert isinstance(ctx.task_output(double), Sum)
        return [ctx.task_output(extract).rows, ctx.task_output(double).total, ctx.was_skipped(extract)]

    assert etl.run() == {"extract": {"rows": 3}, "double": {"total": 6}, "both": [3, 6, False]}


def test_a_task_may_ask_about_its_parents_only(durable: Durable, etl: Workflow) -> None:
    @etl.task()
    def first(input: Any, ctx: Context) -> int:
        return 1

    @etl.task(parents=[first])
    def second(input: Any, ctx: Context) -> int:
        return 2

    @durable.task()
    def alone(input: Any, ctx: Context) -> str:
        with pytest.raises(ParentOutputError, match="'alone' is no task of a workflow, so it has no parents to ask about"):
            ctx.task_output(first)
        return ctx.workflow_run_id

    said: list[str] = []

    @etl.task(parents=[second])
    def third(input: Any, ctx: Context) -> int:
        asks: list[Callable[[Any], Any]] = [ctx.task_output, ctx.was_skipped]
        for ask in asks:
            for task in (first, alone):
                with pytest.raises(ParentOutputError) as caught:
                    ask(task)
                said.append(str(caught.value))
        return ctx.task_output(second)

    assert etl.run()["third"] == 2
    assert said[0] == (
        "'third' asked about <task etl:first>, which is none of its parents (they are: 'second'): declare it in `parents`."
    )
    assert len(said) == 4
    assert len(alone.run()) == 26


def test_tasks_without_order_between_them_run_at_once(etl: Workflow) -> None:
    inside = threading.Barrier(3, timeout=10)

    def meet(input: Any, ctx: Context) -> None:
        inside.wait()

    for name in "abc":
        etl.task(name=name)(meet)
    assert etl.run() == {"a": None, "b": None, "c": None}


def test_ids_and_metadata_and_priority(bench: Bench, durable: Durable) -> None:
    etl = durable.workflow(name="etl", default_additional_metadata={"a": 1}, default_priority=2)

    @etl.task()
    def show(input: Any, ctx: Context) -> list[Any]:
        return [ctx.workflow_run_id, ctx.task_run_id, ctx.parent_workflow_run_id, ctx.additional_metadata]

    @durable.durable_task()
    async def parent(input: Any, ctx: DurableContext) -> Any:
        return [ctx.workflow_run_id, await etl.aio_run(additional_metadata={"c": 3})]

    ref = etl.run(wait_for_result=False, additional_metadata={"b": 2}, priority=3)
    workflow_run, task_run, spawner, metadata = ref.result()["show"]
    assert (workflow_run, spawner, metadata) == (ref.workflow_run_id, None, {"a": 1, "b": 2})
    assert task_run not in (workflow_run, None)
    outer, result = parent.run()
    assert result["show"][2:] == [outer, {"a": 1, "c": 3}]
    assert bench.rows("SELECT priority FROM run ORDER BY number") == [(3,), (3,), (1,), (2,), (2,)]


def test_run_forms_are_those_of_a_task(etl: Workflow) -> None:
    @etl.task()
    async def echo(input: Any, ctx: Context) -> Any:
        return input

    assert etl.run_many([etl.create_bulk_run_item(input=number) for number in (3, 1, 2)]) == [
        {"echo": number} for number in (3, 1, 2)
    ]
    assert asyncio.run(etl.aio_run("x")) == {"echo": "x"}
    assert etl.run("y", wait_for_result=False).result() == {"echo": "y"}


# ------------------------------------------------------------ failures


class Failing:
    """A graph in which `bad` fails as often as it is told: a → bad → after; a → good → later."""

    def __init__(self, durable: Durable, times: int, **options: Any) -> None:
        self.ran: list[str] = []
        self.errors: list[Any] = []
        self.left = times
        self.bad_ran = threading.Event()
        etl = self.workflow = durable.workflow(name="etl", **options)

        @etl.task()
        def a(input: Any, ctx: Context) -> str:
            self.ran.append("a")
            return "A"

        @etl.task(parents=[a])
        def bad(input: Any, ctx: Context) -> str:
            self.ran.append("bad")
            self.bad_ran.set()
            self.left -= 1
            if self.left >= 0:
                raise ValueError(f"no {self.left}")
            return "B"

        @etl.task(parents=[bad])
        def after(input: Any, ctx: Context) -> str:
            self.ran.append("after")
            return ctx.task_output(bad) + "!"

        @etl.task(parents=[a])
        async def good(input: Any, ctx: Context) -> str:
            self.ran.append("good")
            await opened(self.bad_ran)
            return "G"

        @etl.task(parents=[good])
        def later(input: Any, ctx: Context) -> str:
            self.ran.append("later")
            return ctx.task_output(good) + "!"

        @etl.on_failure_task()
        def notify(input: Any, ctx: Context) -> None:
            self.ran.append("notify")
            self.errors.append({name: (error.exc_type, error.exc) for name, error in ctx.task_run_errors.items()})
            error = ctx.get_task_run_error(bad)
            assert error is not None
            assert "ValueError" in error.trace
            assert ctx.get_task_run_error(a) is None
            assert ctx.task_output(later) == "G!"
            with pytest.raises(ParentOutputError, match="'bad' has no output for 'notify': it did not complete"):
                ctx.task_output(bad)
            assert not ctx.was_skipped(after)


def test_a_failed_task_stops_its_descendants_only_and_the_run_is_failed(durable: Durable) -> None:
    failing = Failing(durable, 1)
    ref = failing.workflow.run(wait_for_result=False)
    with pytest.raises(TaskRunError, match="ValueError: no 0") as caught:
        ref.result()
    assert caught.value.exc_type == "ValueError"
    assert sorted(failing.ran) == ["a", "bad", "good", "later", "notify"]
    assert failing.ran[-1] == "notify"
    assert failing.errors == [{"bad": ("ValueError", "no 0")}]
    view = durable.runs.get(ref.workflow_run_id)
    assert view.status == "FAILED"
    [child] = [run for run in durable.runs.list(parent=ref.workflow_run_id) if run.task == "etl:bad"]
    assert caught.value.task_run_external_id == child.id


def test_a_retry_of_the_run_runs_again_what_failed_and_what_follows_it(bench: Bench, durable: Durable) -> None:
    failing = Failing(durable, 2, retries=2)
    assert failing.workflow.run() == {"a": "A", "bad": "B", "after": "B!", "good": "G", "later": "G!"}
    assert {name: failing.ran.count(name) for name in failing.ran} == {"a": 1, "bad": 3, "good": 1, "later": 1, "after": 1}


def test_the_task_for_failure_runs_after_the_last_retry_only(durable: Durable) -> None:
    failing = Failing(durable, 9, retries=2)
    with pytest.raises(TaskRunError, match="no 6"):
        failing.workflow.run()
    assert (failing.ran.count("bad"), failing.ran.count("notify"), failing.ran.count("later")) == (3, 1, 1)


def test_a_retry_of_a_task_is_its_own(durable: Durable, etl: Workflow) -> None:
    ran: list[str] = []

    @etl.task()
    def sibling(input: Any, ctx: Context) -> None:
        ran.append("sibling")

    @etl.task(parents=[sibling], retries=3)
    def flaky(input: Any, ctx: Context) -> int:
        ran.append("flaky")
        if ctx.retry_count < 2:
            raise ValueError("not yet")
        return ctx.attempt_number

    @etl.task(parents=[sibling], retries=3)
    def hopeless(input: Any, ctx: Context) -> None:
        ran.append("hopeless")
        raise NonRetryableException("never")

    with pytest.raises(TaskRunError, match="NonRetryableException: never"):
        etl.run()
    assert sorted(ran) == ["flaky"] * 3 + ["hopeless", "sibling"]


def test_several_failures_come_as_a_group_also_to_a_parent_that_retries(durable: Durable, etl: Workflow) -> None:
    tries: list[str] = []

    def fails(input: Any, ctx: Context) -> None:
        tries.append(ctx.task_run_id)
        if len(tries) <= 4:
            raise KeyError(len(tries))

    for name in ("one", "two"):
        etl.task(name=name)(fails)

    @durable.durable_task(retries=1)
    async def parent(input: Any, ctx: DurableContext) -> Any:
        return await etl.aio_run()

    with pytest.raises(FailedTaskRunExceptionGroup, match="2 tasks of workflow 'etl' failed: one, two") as caught:
        etl.run()
    errors = [error for error in caught.value.exceptions if isinstance(error, TaskRunError)]
    assert [error.exc_type for error in errors] == ["KeyError"] * 2
    assert sorted(error.task_run_external_id for error in errors) == sorted(tries)
    assert parent.run() == {"one": None, "two": None}
    assert len(tries) == 6


def test_what_becomes_of_the_task_for_failure_changes_nothing(durable: Durable, etl: Workflow) -> None:
    @etl.task()
    def bad(input: Any, ctx: Context) -> None:
        raise ValueError("first")

    @etl.on_failure_task()
    def notify(input: Any, ctx: Context) -> None:
        raise KeyError("second")

    with pytest.raises(TaskRunError, match="first"):
        etl.run()


def test_the_task_for_success_is_the_last_and_sees_all(durable: Durable, etl: Workflow) -> None:
    ran: list[str] = []

    @etl.task()
    def a(input: Any, ctx: Context) -> int:
        return 1

    @etl.task()
    def b(input: Any, ctx: Context) -> int:
        return 2

    @etl.on_success_task()
    def cheer(input: Any, ctx: Context) -> int:
        assert ctx.task_run_errors == {}
        if input == "sad":
            raise ValueError("no cheer")
        return ctx.task_output(a) + ctx.task_output(b)

    @etl.on_failure_task()
    def notify(input: Any, ctx: Context) -> None:
        ran.extend(ctx.task_run_errors)

    assert etl.run() == {"a": 1, "b": 2, "cheer": 3}
    with pytest.raises(TaskRunError, match="no cheer"):
        etl.run("sad")
    assert ran == ["cheer"]


# ------------------------------------------------------------ children


def test_a_workflow_as_a_child_and_children_of_its_tasks(bench: Bench, durable: Durable, etl: Workflow) -> None:
    inner = durable.workflow(name="inner")

    @inner.task()
    def leaf(input: int, ctx: Context) -> int:
        return input + 1

    @durable.task()
    async def helper(input: int, ctx: Context) -> int:
        return input * 10

    @etl.durable_task()
    async def spawns(input: int, ctx: DurableContext) -> Any:
        return [await helper.aio_run(input), await inner.aio_run(input)]

    @etl.task()
    async def regular(input: int, ctx: Context) -> Any:
        return (await inner.aio_run(input))["leaf"]

    @durable.durable_task()
    async def outer(input: int, ctx: DurableContext) -> Any:
        results = await etl.aio_run_many([etl.create_bulk_run_item(input=number) for number in (input, input + 1)])
        return [await etl.aio_run(input, child_key="k"), *results]

    one, two = ({"spawns": [number * 10, {"leaf": number + 1}], "regular": number + 1} for number in (4, 5))
    assert outer.run(4) == [one, one, two]


def test_a_task_that_is_cancelled_while_it_is_queued_cancels_the_run(bench: Bench) -> None:
    durable = bench.durable(slots=Slots(loop=0))
    etl = durable.workflow(name="etl")

    @etl.task()
    async def a(input: Any, ctx: Context) -> None:
        return None

    @etl.task(parents=[a])
    def b(input: Any, ctx: Context) -> None:
        return None

    ref = etl.run(wait_for_result=False)
    [(number, epoch)] = wait_until(lambda: bench.rows("SELECT number, epoch FROM run WHERE task = 'etl:a'"))
    cancelled = Outcome(failure=Failure(RunCancelledError.__name__, "somebody did"))
    durable.call(lambda: durable.engine.end_unowned(number, epoch, "CANCELLED", cancelled), aio="")
    with pytest.raises(RunCancelledError, match="was cancelled"):
        ref.result()
    assert kinds(bench)[1:] == ["child etl:a", "cancel b: 'a' was cancelled"]


@pytest.mark.parametrize("slots", [1, 2])
def test_more_workflows_than_slots(bench: Bench, slots: int) -> None:
    """A waiting workflow gives its slot to the durable tasks that it waits for."""
    durable, gate = bench.durable(slots=Slots(durable=slots)), threading.Event()
    etl = durable.workflow(name="etl")

    @etl.durable_task()
    async def first(input: int, ctx: DurableContext) -> int:
        return int(await ctx.aio_memo(lambda: input, int))

    @etl.durable_task(parents=[first])
    async def second(input: int, ctx: DurableContext) -> int:
        await opened(gate)
        return ctx.task_output(first) + 1

    refs = [etl.run(number, wait_for_result=False) for number in range(6)]
    wait_until(lambda: bench.rows("SELECT 1 FROM run WHERE task = 'etl:second' AND status = 'RUNNING'"))
    gate.set()
    assert [ref.result()["second"] for ref in refs] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("has_crashed", [False, True], ids=["live", "crash"])
def test_a_failed_workflow_is_replayed_without_what_its_failure_had_brought_about(bench: Bench, has_crashed: bool) -> None:
    ran: list[str] = []
    is_broken = [True]

    def declare(durable: Durable) -> Workflow:
        etl = durable.workflow(name="etl")

        @etl.task()
        def extract(input: Any, ctx: Context) -> int:
            ran.append("extract")
            return 1

        @etl.task(parents=[extract])
        def load(input: Any, ctx: Context) -> int:
            ran.append("load")
            if is_broken[0]:
                raise ValueError("no")
            return 2

        @etl.on_failure_task()
        def tell(input: Any, ctx: Context) -> None:
            ran.append("tell")

        return etl

    durable = bench.durable()
    ref = declare(durable).run({}, wait_for_result=False)
    with pytest.raises(TaskRunError, match="no"):
        ref.result()
    if has_crashed:
        bench.crash()
        durable = bench.durable()
        declare(durable)
    with pytest.raises(TaskRunError, match="no"):
        durable.runs.replay(ref.workflow_run_id).result()
    is_broken[0] = False
    assert durable.runs.replay(ref.workflow_run_id).result() == {"extract": 1, "load": 2}
    assert ran == ["extract", "load", "tell", "load", "tell", "load"]
