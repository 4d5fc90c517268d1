"""What a task of a workflow knows of the others: read from the log when it is entered, decoded when it is asked for."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from durable_nb.engine.asks import ask_of
from durable_nb.errors import ParentOutputError, TaskRunError
from durable_nb.log import workflows
from durable_nb.log.records import Ask, Outcome
from durable_nb.log.workflows import Ended
from durable_nb.tasks.payload import decode
from durable_nb.tasks.task import Task
from durable_nb.tasks.workflow import WorkflowTask

if TYPE_CHECKING:
    from durable_nb.engine.context import Context
    from durable_nb.engine.engine import Engine
    from durable_nb.log.records import Claim


def child_ask(task: str) -> Ask:
    """What the program of a workflow asks to have a task run."""
    return ask_of("child", task, task)


def skip_ask(name: str, reason: str = "") -> Ask:
    """What it asks to have a task passed over."""
    return ask_of("skip", f"{name}: {reason}", name)


@dataclass(frozen=True)
class Siblings:
    """A view of the tasks that ended before this one started: its parents, or all, where it runs after all.

    Attributes:
        here: this task's name in its workflow.
        known: those whose outcomes it may ask for: their tasks' names by their names in the workflow.
    """

    here: str
    known: Mapping[str, str]
    ended: Ended

    @property
    def parent_id(self) -> str | None:
        """The id of the run that spawned the workflow's run."""
        return self.ended.parent_id

    def output(self, task: Task[Any]) -> Any:
        """Give the output of a parent, as its type.

        Raises:
            ParentOutputError: it is no parent, was skipped, or has no output since it failed.
        """
        name = self._name_of(task)
        if self.was_skipped(task):
            raise ParentOutputError(
                f"'{name}' was skipped, so '{self.here}' gets no output of it: ask ctx.was_skipped({name}) before."
            )
        outcome = self.ended.outcomes.get(child_ask(task.name).fingerprint)
        if outcome is None or outcome.failure is not None:
            raise ParentOutputError(f"'{name}' has no output for '{self.here}': it did not complete.")
        return decode(outcome.value or "null", task.output_adapter, of=f"the output of task '{task.name}'")

    def was_skipped(self, task: Task[Any]) -> bool:
        """Whether a parent was skipped.

        Raises:
            ParentOutputError: it is no parent.
        """
        name = self._name_of(task)
        return skip_ask(name).fingerprint in self.ended.outcomes

    def errors(self) -> dict[str, TaskRunError]:
        """Give the errors of those that failed, by name."""
        outcomes = {name: self.ended.outcomes.get(child_ask(task).fingerprint, Outcome()) for name, task in self.known.items()}
        return {name: outcome.failure.to_error() for name, outcome in outcomes.items() if outcome.failure is not None}

    def error_of(self, task: Task[Any]) -> TaskRunError | None:
        """Give the error of one of them; None if it did not fail, or is none of them."""
        return self.errors().get(self._find(task) or "")

    def _name_of(self, task: Task[Any]) -> str:
        name = self._find(task)
        if name is None:
            parents = ", ".join(f"'{known}'" for known in self.known) or "none"
            raise ParentOutputError(
                f"'{self.here}' asked about {task!r}, which is none of its parents (they are: {parents}): "
                "declare it in `parents`."
            )
        return name

    def _find(self, task: Task[Any]) -> str | None:
        return next((name for name, known in self.known.items() if known == task.name), None)


async def find_siblings(engine: Engine, claim: Claim, context: Context) -> None:
    """Give the context of a workflow's task what the log has of the others; nothing to any other task's."""
    task = context._task
    if not isinstance(task, WorkflowTask) or claim.parent is None:
        return
    part, family = task.part, task.part.workflow.tasks
    shape = {name: (other.part.when, [parent.part.short_name for parent in other.part.parents]) for name, other in family.items()}
    workflow = claim.parent
    context._siblings = await engine.reader.run(
        lambda connection: _siblings(connection, claim, workflow, part.workflow.name, part.short_name, shape)
    )


def siblings_in(connection: sqlite3.Connection, claim: Claim) -> Siblings | None:
    """Give what the task of a run knows of the others, by the shape that its workflow's run has; None for any other run."""
    found = None if claim.parent is None else workflows.plan_of_child(connection, claim.parent, claim.number)
    if found is None or claim.parent is None:
        return None
    name, here = found[0], claim.task.removeprefix(f"{found[0]}:")
    shape = {other: (part["when"], part["parents"]) for other, part in decode(found[1]).items()}
    return _siblings(connection, claim, claim.parent, name, here, shape) if here in shape else None


def _siblings(
    connection: sqlite3.Connection, claim: Claim, workflow: int, name: str, here: str, shape: Mapping[str, tuple[str, list[str]]]
) -> Siblings:
    """Read the outcomes of those that a task may ask about: its parents; all, where it runs after them."""
    when, parents = shape[here]
    if when == "success":
        parents = [other for other, (its_when, _) in shape.items() if its_when == "parents"]
    elif when == "failure":
        parents = [other for other in shape if other != here]
    known = {other: f"{name}:{other}" for other in parents}
    wanted = [ask.fingerprint for other, task in known.items() for ask in (child_ask(task), skip_ask(other))]
    return Siblings(here, known, workflows.load_ended(connection, workflow, claim.number, wanted))
