"""What a task of a workflow knows of the others: read from the log when it is entered, decoded when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
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


def child_ask(task: Task[Any]) -> Ask:
    """What the program of a workflow asks to have a task run."""
    return ask_of("child", task.name, task.name)


def skip_ask(name: str, reason: str = "") -> Ask:
    """What it asks to have a task passed over."""
    return ask_of("skip", f"{name}: {reason}", name)


class Siblings:
    """A view of the tasks that ended before this one started: its parents, or all, where it runs after all.

    Args:
        known: those whose outcomes it may ask for, by their name in the workflow.
    """

    def __init__(self, task: WorkflowTask[Any], known: Mapping[str, WorkflowTask[Any]], ended: Ended) -> None:
        self._task = task
        self._known = known
        self._ended = ended

    @property
    def parent_id(self) -> str | None:
        """The id of the run that spawned the workflow's run."""
        return self._ended.parent_id

    def output(self, task: Task[Any]) -> Any:
        """Give the output of a parent, as its type.

        Raises:
            ParentOutputError: it is no parent, was skipped, or has no output since it failed.
        """
        name = self._name_of(task)
        if self.was_skipped(task):
            raise ParentOutputError(
                f"'{name}' was skipped, so '{self._here}' gets no output of it: ask ctx.was_skipped({name}) before."
            )
        outcome = self._ended.outcomes.get(child_ask(task).fingerprint)
        if outcome is None or outcome.failure is not None:
            raise ParentOutputError(f"'{name}' has no output for '{self._here}': it did not complete.")
        return decode(outcome.value or "null", task.output_adapter, of=f"the output of task '{task.name}'")

    def was_skipped(self, task: Task[Any]) -> bool:
        """Whether a parent was skipped.

        Raises:
            ParentOutputError: it is no parent.
        """
        name = self._name_of(task)
        return skip_ask(name).fingerprint in self._ended.outcomes

    def errors(self) -> dict[str, TaskRunError]:
        """Give the errors of those that failed, by name."""
        outcomes = {name: self._ended.outcomes.get(child_ask(task).fingerprint, Outcome()) for name, task in self._known.items()}
        return {name: outcome.failure.to_error() for name, outcome in outcomes.items() if outcome.failure is not None}

    @property
    def _here(self) -> str:
        return self._task.part.short_name

    def _name_of(self, task: Task[Any]) -> str:
        name = next((name for name, known in self._known.items() if known.name == task.name), None)
        if name is None:
            parents = ", ".join(f"'{known}'" for known in self._known) or "none"
            raise ParentOutputError(
                f"'{self._here}' asked about {task!r}, which is none of its parents (they are: {parents}): "
                "declare it in `parents`."
            )
        return name


async def find_siblings(engine: Engine, claim: Claim, context: Context) -> None:
    """Give the context of a workflow's task what the log has of the others; nothing to any other task's."""
    task = context._task
    if not isinstance(task, WorkflowTask) or claim.parent is None:
        return
    part, workflow = task.part, claim.parent
    after_all = {name: other for name, other in part.workflow.tasks.items() if other.part.when == "parents"}
    if part.when == "failure":
        after_all = {name: other for name, other in part.workflow.tasks.items() if other is not task}
    known = {parent.part.short_name: parent for parent in part.parents} if part.when == "parents" else after_all
    wanted = [ask.fingerprint for name, other in known.items() for ask in (child_ask(other), skip_ask(name))]
    ended = await engine.reader.run(lambda connection: workflows.load_ended(connection, workflow, claim.number, wanted))
    context._siblings = Siblings(task, known, ended)
