"""What every task is given beside its input: a view of its run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from durable_nb.log import runs
from durable_nb.log.records import Claim, holdable
from durable_nb.tasks.payload import decode

if TYPE_CHECKING:
    from durable_nb.engine.engine import Engine
    from durable_nb.tasks.task import Task


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

    @property
    def workflow_run_id(self) -> str:
        """The run's id."""
        return self._claim.id

    @property
    def task_run_id(self) -> str:
        """The run's id too: a standalone task is a run of one task."""
        return self._claim.id

    @property
    def parent_workflow_run_id(self) -> str | None:
        """The id of the run that spawned this one."""
        return self._claim.parent_id

    @property
    def additional_metadata(self) -> dict[str, Any]:
        """The run's metadata: its parent's, its task's defaults and its own, later ones first."""
        return decode(self._claim.metadata)  # type: ignore[no-any-return]

    @property
    def filter_payload(self) -> dict[str, Any]:
        """The payload of the `DefaultFilter` that let the event through which started the run; empty where there is none."""
        return decode(self._claim.filter_payload) if self._claim.filter_payload else {}

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
