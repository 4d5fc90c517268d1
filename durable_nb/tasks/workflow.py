"""Workflows: tasks that are declared beforehand as a graph, by their parents and conditions.

A workflow is a durable task whose function the engine supplies (`engine/workflow.py`), and each of its tasks is a task that
only this function runs. Declarations do no I/O; that a graph has no cycle follows from parents being declared first.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from hashlib import blake2b
from typing import Annotated, Any, Protocol, TypeVar, cast

from pydantic import AfterValidator, TypeAdapter

from durable_nb.errors import DeclarationError
from durable_nb.tasks.conditions import Condition, OrGroup, ParentCondition, SleepCondition, UserEventCondition, or_
from durable_nb.tasks.options import TaskOptions, make_options
from durable_nb.tasks.payload import check_text
from durable_nb.tasks.task import Declarer, Host, Kind, Output, Task

Result = TypeVar("Result")
GateCondition = Condition | ParentCondition
Conditions = GateCondition | OrGroup | Sequence[GateCondition | OrGroup]
Gate = tuple[tuple[GateCondition, ...], ...]  # all groups must be satisfied, each by one of its conditions
Plan = dict[str, dict[str, Any]]
NO_TASKS = "0" * 16  # the version of a workflow without tasks

OF_THE_WORKFLOW = {  # options that Hatchet knows for a whole workflow only
    "input_validator",
    "on_events",
    "on_crons",
    "default_priority",
    "default_filters",
    "default_additional_metadata",
    "idempotency",
}


class WorkflowHost(Host, Protocol):
    """Who runs workflows and serves their tasks."""

    def add(self, task: Task[Any]) -> Task[Any]:
        """Serve a task from now on."""
        ...


@dataclass(frozen=True, kw_only=True)
class Part:
    """A task's place in its workflow.

    Attributes:
        short_name: its name there, by which results and errors are given.
        when: ``"parents"`` have ended, or the whole graph has by ``"success"`` or ``"failure"``.
    """

    workflow: Workflow
    short_name: str
    parents: tuple[WorkflowTask[Any], ...] = ()
    wait_for: Gate = ()
    skip_if: Gate = ()
    cancel_if: Gate = ()
    when: str = "parents"

    def as_plan(self) -> dict[str, Any]:
        """Give what makes the graph's shape, as JSON."""
        gates = {"wait_for": self.wait_for, "skip_if": self.skip_if, "cancel_if": self.cancel_if}
        shape = {name: [[_shape(item) for item in group] for group in gate] for name, gate in gates.items() if gate}
        return {"parents": sorted(parent.part.short_name for parent in self.parents), "when": self.when, **shape}


class WorkflowTask(Task[Output]):
    """A task of a workflow. Its `name`, under which the log knows its runs, is ``"workflow:task"``."""

    def __init__(self, function: Callable[..., Any], part: Part, **options: Any) -> None:
        super().__init__(function, name=f"{part.workflow.name}:{part.short_name}", **options)
        self.part = part
        if part.workflow.has_validator:
            self.input_adapter = part.workflow.input_adapter

    def check_runnable(self) -> None:
        """Refuse to run it alone."""
        workflow = self.part.workflow.name
        raise DeclarationError(f"'{self.part.short_name}' is a task of workflow '{workflow}': run the workflow, which runs it.")


class Workflow(Task[dict[str, Any]]):
    """A graph of tasks, declared by `durable.workflow(name=...)`. Its result is ``{task_name: output}``.

    A task runs when all its parents have ended. One that failed keeps its descendants from running, while the others go on
    to their end; then the run is FAILED. A skipped parent does not hold up anybody.

    Conditions are looked at when the parents have ended, and sleeps and events count from then on. Each of `wait_for`,
    `skip_if` and `cancel_if` is true when all its conditions (of an `or_` group one) are satisfied, and **the first of the
    three to become true decides**; of those that become true by the same event or at the same moment `skip_if` goes before
    `cancel_if` and that before `wait_for`. So an event of `skip_if` counts only until `wait_for` is satisfied, and a task
    without `wait_for` waits for nothing. A task whose `wait_for` can never become true, since a ParentCondition in it does
    not hold, is skipped.

    A run keeps the shape it was started with: parents and conditions that are declared otherwise park it, until they are
    declared as they were.

    Attributes:
        tasks: by name, in the order in which they were declared.
        version: a hash of the shape.

    Example:
        >>> etl = durable.workflow(name="etl")                                     # doctest: +SKIP
        >>> @etl.task()                                                            # doctest: +SKIP
        ... def extract(input: EmptyModel, ctx: Context) -> list[int]:
        ...     return [1, 2, 3]
        >>> @etl.task(parents=[extract], skip_if=ParentCondition(extract, "size(output) == 0"))  # doctest: +SKIP
        ... def total(input: EmptyModel, ctx: Context) -> int:
        ...     return sum(ctx.task_output(extract))
        >>> etl.run()                                                              # doctest: +SKIP
        {'extract': [1, 2, 3], 'total': 6}
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        host: WorkflowHost,
        name: str,
        options: TaskOptions,
        input_validator: Any = None,
        description: str | None = None,
    ) -> None:
        super().__init__(
            function,
            host=host,
            kind="durable_task",
            name=name,
            options=options,
            input_validator=input_validator if input_validator is not None else Any,
            description=description or f"Workflow {name}",
        )
        self.has_validator = input_validator is not None
        if not self.has_validator:
            self.input_adapter = ANYTHING
        self.tasks: dict[str, WorkflowTask[Any]] = {}
        self.version = NO_TASKS

    def __repr__(self) -> str:
        return f"<workflow {self.name}: {', '.join(self.tasks) or 'no tasks yet'}>"

    def __call__(self, *_: Any, **__: Any) -> Any:
        """Refuse: a workflow has no function of its own."""
        raise DeclarationError(f"Workflow '{self.name}' is not called but run: `{self.name}.run(…)`, or call one of its tasks.")

    def check_runnable(self) -> None:
        """Refuse to run it without tasks."""
        if not any(task.part.when == "parents" for task in self.tasks.values()):
            raise DeclarationError(f"Workflow '{self.name}' has no tasks: declare one by @{self.name}.task() before it is run.")

    # ------------------------------------------------------------ declaring

    def task(
        self,
        name: str | None = None,
        *,
        parents: Sequence[Task[Any]] | None = None,
        wait_for: Conditions | None = None,
        skip_if: Conditions | None = None,
        cancel_if: Conditions | None = None,
        **options: Any,
    ) -> Declarer:
        """Declare a regular task of the workflow: ``(input, ctx)`` with the workflow's input, sync or async.

        Args:
            name: the function's name by default; unique in the workflow.
            parents: tasks of this workflow that must have ended before it starts; ``ctx.task_output(parent)`` gives their
                outputs.
            wait_for: conditions that must be satisfied as well; a condition, an `or_` group, or a list of them (AND).
            skip_if: conditions under which it does not run; its output is then ``{"skipped": True}``.
            cancel_if: conditions under which it and its descendants do not run, and the run ends CANCELLED.
            options: as for `durable.task`: `description`, `retries`, `backoff_factor`, `execution_timeout`, ….

        Raises:
            DeclarationError: a name that is taken, a parent that is not declared in this workflow, a condition or option that
                cannot work.
            ExpressionError: a condition's expression does not compile.
        """
        return self._declarer("task", name, options, parents=parents, gates=(wait_for, skip_if, cancel_if))

    def durable_task(
        self,
        name: str | None = None,
        *,
        parents: Sequence[Task[Any]] | None = None,
        wait_for: Conditions | None = None,
        skip_if: Conditions | None = None,
        cancel_if: Conditions | None = None,
        **options: Any,
    ) -> Declarer:
        """Declare a durable task of the workflow: ``async def f(input, ctx)`` with a `DurableContext`; else as `task`."""
        return self._declarer("durable_task", name, options, parents=parents, gates=(wait_for, skip_if, cancel_if))

    def on_failure_task(self, name: str | None = None, **options: Any) -> Declarer:
        """Declare the task that runs once when a task has failed, after all others ended and the run's last retry.

        ``ctx.task_run_errors`` tells it what failed. The run stays FAILED, whatever comes of it.
        """
        return self._declarer("task", name, options, when="failure")

    def on_success_task(self, name: str | None = None, **options: Any) -> Declarer:
        """Declare the task that runs last, when every other task has completed or was skipped.

        It may ask for the outputs of all. It is a task as any other: its output is part of the result, and its failure fails
        the run.
        """
        return self._declarer("task", name, options, when="success")

    def _declarer(
        self,
        kind: Kind,
        name: str | None,
        options: dict[str, Any],
        *,
        parents: Sequence[Task[Any]] | None = None,
        gates: tuple[Conditions | None, ...] = (None, None, None),
        when: str = "parents",
    ) -> Declarer:
        decorator = kind if when == "parents" else f"on_{when}_task"
        form = f"@{self.name}.{decorator}"
        if name is not None and not isinstance(name, str):
            raise DeclarationError(f"{form} is written with parentheses: `{form}()`.")
        if name is not None:
            check_text(name, of="the task's name")
        if refused := sorted(OF_THE_WORKFLOW & set(options)):
            raise DeclarationError(
                f"{form} has no option '{refused[0]}': give it to durable.workflow(…), for the whole workflow."
            )
        description = options.pop("description", None)
        checked = make_options(kind, options, form=form)

        def declare(function: Callable[..., Any]) -> WorkflowTask[Any]:
            short_name = name or function.__name__
            family = self._parents(short_name, () if parents is None else parents)
            wait_for, skip_if, cancel_if = (
                gate(() if conditions is None else conditions, family, of=f"{option} of task '{short_name}'")
                for option, conditions in zip(("wait_for", "skip_if", "cancel_if"), gates, strict=True)
            )
            self._refuse_second(short_name, when)
            part = Part(
                workflow=self,
                short_name=short_name,
                parents=family,
                wait_for=wait_for,
                skip_if=skip_if,
                cancel_if=cancel_if,
                when=when,
            )
            task: WorkflowTask[Any] = WorkflowTask(
                function, part, host=self.host, kind=kind, options=checked, description=description
            )
            self._take_in(task)
            return task

        return declare

    def _take_in(self, task: WorkflowTask[Any]) -> None:
        before = self.tasks, self.version
        self.tasks = {**self.tasks, task.part.short_name: task}
        self.version = version_with(self.version or NO_TASKS, task.part)
        try:
            cast("WorkflowHost", self.host).add(task)
        except BaseException:
            self.tasks, self.version = before
            raise

    def _parents(self, name: str, parents: Sequence[Task[Any]]) -> tuple[WorkflowTask[Any], ...]:
        if isinstance(parents, Task):
            raise DeclarationError(f"parents of task '{name}' is a task: give a list, parents=[{parents.__name__}].")
        family = []
        for parent in dict.fromkeys(parents):
            if not isinstance(parent, WorkflowTask) or self.tasks.get(parent.part.short_name) is not parent:
                raise DeclarationError(
                    f"The parent {parent!r} of task '{name}' is no task of workflow '{self.name}': "
                    f"declare it before, by @{self.name}.task(), in this very workflow."
                )
            if parent.part.when != "parents":
                raise DeclarationError(f"The parent {parent!r} of task '{name}' runs after all others, so nothing can follow it.")
            family.append(parent)
        return tuple(family)

    def _refuse_second(self, name: str, when: str) -> None:
        if name in self.tasks:
            raise DeclarationError(
                f"Workflow '{self.name}' has a task '{name}' already: take another name, or declare the workflow anew "
                f'(durable.workflow(name="{self.name}")) and all of its tasks after it.'
            )
        other = task_for(when, self.tasks) if when != "parents" else None
        if other is not None:
            raise DeclarationError(
                f"Workflow '{self.name}' has an on_{when}_task already, '{other.part.short_name}': a workflow has one."
            )


def gate(conditions: Conditions, parents: Sequence[Task[Any]], *, of: str) -> Gate:
    """Give conditions as groups, checked.

    Raises:
        DeclarationError: a thing that is no condition, or one that cannot work.
    """
    items = [conditions] if isinstance(conditions, GateCondition | OrGroup) else list(conditions)
    try:
        groups = tuple((item if isinstance(item, OrGroup) else or_(item)).conditions for item in items)
    except DeclarationError as error:
        raise DeclarationError(f"{of}: {error}") from None
    for condition in (condition for group in groups for condition in group):
        match cast("GateCondition", condition):
            case ParentCondition(parent=parent) if parent not in parents:
                raise DeclarationError(f"{of} looks at the output of {parent!r}: take it into `parents`.")
            case SleepCondition(duration=duration) if not isinstance(cast("object", duration), timedelta) or duration < timedelta(
                0
            ):
                raise DeclarationError(f"{of} sleeps for {duration!r}: give a timedelta of zero or more.")
            case UserEventCondition(event_key=key, scope=scope):
                check_text(key, of=f"{of}: the event's key")
                if scope is not None:
                    check_text(scope, of=f"{of}: the scope")
    return cast("Gate", groups)


def plan_of(tasks: Mapping[str, WorkflowTask[Any]]) -> Plan:
    """Give a graph's shape as JSON, by task."""
    return {name: task.part.as_plan() for name, task in tasks.items()}


def task_for(when: str, tasks: Mapping[str, WorkflowTask[Any]]) -> WorkflowTask[Any] | None:
    """Give the task that runs after ``"success"`` or ``"failure"``."""
    return next((task for task in tasks.values() if task.part.when == when), None)


def version_with(version: str, part: Part) -> str:
    """Give the hash of a shape that gets one more task; a sum, so that the order of declaration is no part of it."""
    digest = blake2b(json.dumps([part.short_name, part.as_plan()], sort_keys=True).encode(), digest_size=8).digest()
    return f"{(int(version, 16) + int.from_bytes(digest)) % 2**64:016x}"


def difference(before: Plan, now: Plan) -> tuple[str, str] | None:
    """Give the first task that two shapes have otherwise, in words, as it was and as it is; None if they are the same."""
    for name in {**before, **now}:
        if before.get(name) != now.get(name):
            return _words(name, before.get(name)), _words(name, now.get(name))
    return None


def _words(name: str, part: dict[str, Any] | None) -> str:
    if part is None:
        return f"no task '{name}'"
    words = f"the task '{name}'" + (f" after {', '.join(part['parents'])}" if part["parents"] else "")
    if part["when"] != "parents":
        words += f" on {part['when']}"
    gates = [f"{key} {json.dumps(part[key], ensure_ascii=False)}" for key in ("wait_for", "skip_if", "cancel_if") if key in part]
    return ", ".join([words, *gates])


def _shape(condition: GateCondition) -> list[Any]:
    match condition:
        case SleepCondition():
            return ["sleep", condition.duration // timedelta(microseconds=1)]
        case UserEventCondition():
            return ["event", condition.event_key, condition.expression or "", condition.scope]
        case ParentCondition():
            return ["parent", cast("WorkflowTask[Any]", condition.parent).part.short_name, condition.expression or ""]


def _given(value: Any) -> Any:
    if value is None:
        raise ValueError("it takes an input, or none at all")
    return value


ANYTHING: TypeAdapter[Any] = TypeAdapter(Annotated[Any, AfterValidator(_given)])  # none given is the empty one, `{}`
