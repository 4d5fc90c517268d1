"""Declaring workflows: what cannot work is refused with a sentence, and nothing of it stays."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast

import pytest
from pydantic import BaseModel

from durable_nb import Context, Durable, DurableContext, EmptyModel, ParentCondition, SleepCondition, UserEventCondition, or_
from durable_nb.errors import DeclarationError, ExpressionError, InputValidationError
from durable_nb.tasks.workflow import Workflow
from tests.engine.helpers import Bench


class Order(BaseModel):
    id: int


def noop(input: Any, ctx: Context) -> None:
    return None


@pytest.fixture
def etl(durable: Durable) -> Workflow:
    return durable.workflow(name="etl")


def test_a_workflow_has_no_tasks_at_first_and_cannot_be_run_so(bench: Bench, etl: Workflow) -> None:
    assert etl.tasks == {}
    with pytest.raises(DeclarationError, match=r"Workflow 'etl' has no tasks: declare one by @etl.task\(\)"):
        etl.run()
    etl.on_success_task()(noop)
    with pytest.raises(DeclarationError, match="has no tasks"):
        etl.run()
    assert bench.count("run") == 0


def test_a_name_is_unique_in_its_workflow_and_may_be_used_in_another(durable: Durable, etl: Workflow) -> None:
    first = etl.task()(noop)
    with pytest.raises(DeclarationError, match="Workflow 'etl' has a task 'noop' already: take another name, or declare the"):
        etl.task()(noop)
    with pytest.raises(DeclarationError, match="has a task 'noop' already"):
        etl.on_failure_task()(noop)
    other = durable.workflow(name="other").task()(noop)
    assert [first.name, other.name] == ["etl:noop", "other:noop"]
    assert list(etl.tasks) == ["noop"]


def test_parents_are_tasks_of_the_same_workflow_declared_before(durable: Durable, etl: Workflow) -> None:
    foreign, alone = durable.workflow(name="other").task()(noop), durable.task(name="alone")(noop)
    for parent in (foreign, alone):
        with pytest.raises(DeclarationError, match=r"is no task of workflow 'etl': declare it before, by @etl.task\(\)"):
            etl.task(parents=[parent])(noop)
    mine = etl.task(name="mine")(noop)
    again = durable.workflow(name="etl")
    with pytest.raises(DeclarationError, match="in this very workflow"):
        again.task(parents=[mine])(noop)
    with pytest.raises(DeclarationError, match=r"parents of task 'child' is a task: give a list, parents=\[etl:mine\]"):
        etl.task(name="child", parents=mine)(noop)  # type: ignore[arg-type]
    last = etl.on_success_task(name="last")(noop)
    with pytest.raises(DeclarationError, match="runs after all others, so nothing can follow it"):
        etl.task(name="later", parents=[last])(noop)
    assert list(etl.tasks) == ["mine", "last"]


def test_there_is_one_task_for_failure_and_one_for_success(etl: Workflow) -> None:
    etl.on_failure_task(name="notify")(noop)
    with pytest.raises(DeclarationError, match="Workflow 'etl' has an on_failure_task already, 'notify': a workflow has one"):
        etl.on_failure_task(name="more")(noop)
    etl.on_success_task(name="cheer")(noop)
    with pytest.raises(DeclarationError, match="has an on_success_task already, 'cheer'"):
        etl.on_success_task(name="more")(noop)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda parent: {"skip_if": ParentCondition(parent, "output > 1")},
            "looks at the output of <task etl:parent>: take it into",
        ),
        (lambda parent: {"wait_for": "soon"}, "wait_for of task 'noop': or_ takes SleepCondition, UserEventCondition and Parent"),
        (lambda parent: {"wait_for": SleepCondition(timedelta(-1))}, "wait_for of task 'noop' sleeps for .*zero or more"),
        (lambda parent: {"wait_for": SleepCondition(cast("timedelta", 5))}, "sleeps for 5: give a timedelta"),
        (lambda parent: {"input_validator": Order}, "has no option 'input_validator': give it to durable.workflow"),
        (lambda parent: {"default_priority": 2}, "has no option 'default_priority': give it to durable.workflow"),
        (lambda parent: {"retrys": 2}, "@etl.task has no option 'retrys'; it has .*retries"),
    ],
)
def test_conditions_and_options_that_cannot_work(etl: Workflow, make: Callable[[Any], dict[str, Any]], message: str) -> None:
    parent = etl.task(name="parent")(noop)
    with pytest.raises(DeclarationError, match=message):
        etl.task(**make(parent))(noop)
    assert list(etl.tasks) == ["parent"]


def test_expressions_are_compiled_when_they_are_declared(durable: Durable, etl: Workflow) -> None:
    parent = etl.task(name="parent")(noop)
    version = etl.version
    wrong: list[Any] = [ParentCondition(parent, "output >"), [or_(UserEventCondition("go", "input.(")), ParentCondition(parent)]]
    for conditions in wrong:
        with pytest.raises(ExpressionError):
            etl.task(parents=[parent], cancel_if=conditions)(noop)
    assert (list(etl.tasks), etl.version) == (["parent"], version)
    assert "etl:noop" not in durable.tasks


def test_a_parent_condition_is_not_for_waits(durable: Durable, etl: Workflow) -> None:
    parent = etl.task(name="parent")(noop)

    @durable.durable_task()
    async def waits(input: Any, ctx: DurableContext) -> None:
        await ctx.aio_wait_for("x", or_(ParentCondition(parent)))

    with pytest.raises(Exception, match="A ParentCondition is for wait_for, skip_if and cancel_if of a workflow's task"):
        waits.run()


def test_options_of_a_workflow(durable: Durable) -> None:
    with pytest.raises(DeclarationError, match="no option 'execution_timeout', since a workflow's run does nothing but wait"):
        durable.workflow(name="etl", execution_timeout=5)
    with pytest.raises(DeclarationError, match=r"durable\.workflow has no option 'retrys'"):
        durable.workflow(name="etl", retrys=5)
    with pytest.raises(DeclarationError, match="needs a name"):
        durable.workflow(name="")
    with pytest.raises(DeclarationError, match="is written with parentheses"):
        durable.workflow(name="etl").task(noop)  # type: ignore[arg-type]


def test_a_task_of_a_workflow_does_not_run_alone_nor_a_workflow_by_a_call(bench: Bench, etl: Workflow) -> None:
    task = etl.task()(noop)
    for start in (task.run, lambda: task.run_many([task.create_bulk_run_item()]), lambda: task.run(wait_for_result=False)):
        with pytest.raises(DeclarationError, match="'noop' is a task of workflow 'etl': run the workflow"):
            start()
    with pytest.raises(DeclarationError, match="is not called but run"):
        etl(1)
    assert task(1, None) is None  # as any task, for unit tests
    assert bench.count("run") == 0


def test_the_shape_has_a_version_which_the_order_of_declaration_is_no_part_of(durable: Durable) -> None:
    def declare(names: str, **options: Any) -> str | None:
        workflow = durable.workflow(name="etl")
        for name in names:
            workflow.task(name=name, **options)(noop)
        return workflow.version

    assert declare("ab") == declare("ba") != declare("abc")
    assert declare("ab") != declare("ab", wait_for=UserEventCondition("go")) != declare("ab", skip_if=UserEventCondition("go"))


def test_the_input_is_validated_once_before_anything_is_written(bench: Bench, durable: Durable) -> None:
    typed = durable.workflow(name="typed", input_validator=Order)
    seen: list[Any] = []

    @typed.task()
    def look(input: Order, ctx: Context) -> int:
        seen.append(input)
        assert ctx.workflow_input is ctx.input is input
        return input.id

    with pytest.raises(InputValidationError, match="id"):
        typed.run({"id": "x"})
    assert bench.count("run") == 0
    assert typed.run({"id": 7}) == typed.run(Order(id=7)) == {"look": 7}
    assert seen == [Order(id=7)] * 2


def test_without_a_validator_each_task_reads_the_input_as_annotated(durable: Durable, etl: Workflow) -> None:
    @etl.task()
    def plain(input: Any, ctx: Context) -> Any:
        return input

    @etl.task()
    def model(input: EmptyModel, ctx: Context) -> str:
        return type(input).__name__

    assert etl.run() == {"plain": {}, "model": "EmptyModel"}
    assert etl.run({"a": [1, None]}) == {"plain": {"a": [1, None]}, "model": "EmptyModel"}
    assert durable.runs.list(task="etl")[0].kind == "durable_task"
