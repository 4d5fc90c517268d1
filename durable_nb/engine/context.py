"""What every task is given beside its input: a view of its run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from durable_nb.errors import ParentOutputError
from durable_nb.log import runs
from durable_nb.log.records import Claim, holdable
from durable_nb.tasks.payload import decode
from durable_nb.tasks.workflow import WorkflowTask

if TYPE_CHECKING:
    from durable_nb.engine.engine import Engine
    from durable_nb.engine.siblings import Siblings
    from durable_nb.errors import TaskRunError
    from durable_nb.tasks.task import Output, Task


class Context:
    """A running task's view of its run.

    Example:
        >>> async def shout(input: dict, ctx: Context) -> str:
        ...     ctx.log("shouting")
        ...     return input["text"].upper()
    """

    def __init__(self, engine: Engine, claim: Claim, task: Task[Any], input: object) -> None:
        self._engine = engine
        self._claim = claim
        self._task = task
        self.input = input
        self._siblings: Siblings | None = None  # where the task is one of a workflow

    @property
    def workflow_run_id(self) -> str:
        """The run's id; in a task of a workflow, that of the workflow's run."""
        return self._claim.parent_id or self._claim.id if self._siblings else self._claim.id

    @property
    def task_run_id(self) -> str:
        """The id of the task's own run; of a standalone task the same as `workflow_run_id`."""
        return self._claim.id

    @property
    def parent_workflow_run_id(self) -> str | None:
        """The id of the run that spawned this one; in a task of a workflow, that spawned the workflow's run."""
        return self._siblings.parent_id if self._siblings else self._claim.parent_id

    @property
    def workflow_input(self) -> object:
        """The input, which every task of a workflow is given: the same as `input`."""
        return self.input

    def task_output(self, task: Task[Output]) -> Output:
        """Give the output of a parent, in a task of a workflow; `on_success_task` and `on_failure_task` may ask for all.

        Raises:
            ParentOutputError: it is none of the parents, or was skipped, or did not complete.

        Example:
            >>> @etl.task(parents=[extract])                              # doctest: +SKIP
            ... def load(input: EmptyModel, ctx: Context) -> int:
            ...     return len(ctx.task_output(extract))
        """
        return self._in_workflow().output(task)  # type: ignore[no-any-return]

    def was_skipped(self, task: Task[Any]) -> bool:
        """Whether a parent was skipped by its conditions, in a task of a workflow.

        Raises:
            ParentOutputError: it is none of the parents.
        """
        return self._in_workflow().was_skipped(task)

    @property
    def task_run_errors(self) -> dict[str, TaskRunError]:
        """The errors of the tasks that failed, by name: in an `on_failure_task`; elsewhere none.

        Each has `.exc`, `.exc_type`, `.trace` and `.task_run_external_id`.
        """
        return self._siblings.errors() if self._siblings else {}

    def get_task_run_error(self, task: Task[Any]) -> TaskRunError | None:
        """Give the error of one task of the workflow, None if it did not fail."""
        return self.task_run_errors.get(task.part.short_name) if isinstance(task, WorkflowTask) else None

    def _in_workflow(self) -> Siblings:
        if self._siblings is None:
            raise ParentOutputError(f"'{self._task.name}' is no task of a workflow, so it has no parents to ask about.")
        return self._siblings

    @property
    def additional_metadata(self) -> dict[str, Any]:
        """The run's metadata: its parent's, its task's defaults and its own, later ones first."""
        return decode(self._claim.metadata)  # type: ignore[no-any-return]

    @property
    def child_index(self) -> int | None:
        """Its place among the children of one bulk call, from 0."""
        return self._claim.child_index

    @property
    def child_key(self) -> str | None:
        """The key that its parent gave it."""
        return self._claim.child_key

    @property
    def retry_count(self) -> int:
        """How many attempts failed before this one."""
        return self._claim.retry_count

    @property
    def attempt_number(self) -> int:
        """This attempt, from 1."""
        return self._claim.retry_count + 1

    @property
    def max_attempts(self) -> int:
        """How many attempts the task has."""
        return self._task.options.retries + 1

    @property
    def invocation_count(self) -> int:
        """How often the function was entered: attempts, and entries after evictions and crashes."""
        return self._claim.invocation_count

    def log(self, text: object) -> None:
        """Add a line to the run's log."""
        engine, number, at, line = self._engine, self._claim.number, self._engine.clock.now(), holdable(str(text))
        engine.post(lambda: engine.writer.submit(lambda connection: runs.add_line(connection, number, line, at=at)))
