"""What every task is given beside its input: a view of its run."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from durable_nb.engine.cancelling import cancel
from durable_nb.engine.current import CURRENT
from durable_nb.errors import DeclarationError, DurableError, ParentOutputError, PayloadTooLargeError
from durable_nb.log.records import Claim, holdable
from durable_nb.log.streams import Said
from durable_nb.tasks.options import parse_duration
from durable_nb.tasks.payload import decode

if TYPE_CHECKING:
    from durable_nb.engine.engine import Engine
    from durable_nb.engine.regular import RegularRun
    from durable_nb.engine.siblings import Siblings
    from durable_nb.errors import TaskRunError
    from durable_nb.tasks.task import Output, Task

Level = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
MAX_CHUNK_BYTES = 1024 * 1024


class Context:
    """A running task's view of its run.

    What is synchronous here may be called from any thread of the task: it waits for nothing. Lines, chunks and progress are
    written soon, in order, many in one commit; those of an attempt that was given up are dropped.

    Attributes:
        input: what the run was started with.
        is_cancelled: whether the run was told that it is cancelled. A function in a thread is told in no other way: it looks now
            and then.

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
        self.is_cancelled = False
        self._siblings: Siblings | None = None  # where the task is one of a workflow

    # ------------------------------------------------------------ what it is

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
        return self._siblings.error_of(task) if self._siblings else None

    def _in_workflow(self) -> Siblings:
        if self._siblings is None:
            raise ParentOutputError(f"'{self._task.name}' is no task of a workflow, so it has no parents to ask about.")
        return self._siblings

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

    @property
    def was_triggered_by_event(self) -> bool:
        """Whether an event started the run (`on_events`), not a person, a parent or a clock."""
        return self._claim.event is not None

    @property
    def is_replaying(self) -> bool:
        """Whether recorded work lies ahead, so that this code ran before: then lines, chunks and progress are muted."""
        return False

    @property
    def lifespan(self) -> Any:
        """What the app object's `lifespan` has yielded; None without one."""
        return self._engine.lifespan.value

    # ------------------------------------------------------------ what it says

    def log(self, text: object, level: Level = "INFO") -> None:
        """Add a line to the run's log: `durable.runs.logs(run)` gives them.

        Raises:
            DeclarationError: a level that is none of DEBUG, INFO, WARNING and ERROR.
        """
        if level not in LEVELS:
            raise DeclarationError(f"ctx.log has no level {level!r}: it has {', '.join(LEVELS)}.")
        self._say(what=holdable(str(text)), level=level)

    def put_stream(self, data: str | bytes) -> None:
        """Stream a chunk to whoever iterates over `ref.stream()`, now or later.

        Chunks since the last checkpoint are streamed again when a crash makes the task run again from there.

        Raises:
            TypeError: it is neither text nor bytes. PayloadTooLargeError: it is larger than 1 MiB.
        """
        if not isinstance(data, str | bytes):
            raise TypeError(f"ctx.put_stream takes text or bytes, not {type(data).__name__}: give json.dumps(…) of it.")
        chunk = holdable(data) if isinstance(data, str) else data
        size = len(chunk.encode() if isinstance(chunk, str) else chunk)
        if size > MAX_CHUNK_BYTES:
            raise PayloadTooLargeError(
                f"A streamed chunk has {size / 2**20:.1f} MiB; ctx.put_stream takes 1 MiB: cut it into several."
            )
        self._say(what=chunk)

    async def aio_put_stream(self, data: str | bytes) -> None:
        """As `put_stream`, which does not wait either."""
        self.put_stream(data)

    def progress(self, fraction: float, message: str | None = None) -> None:
        """Tell how far the task is; the last word stands with the run.

        Args:
            fraction: from 0 to 1.

        Raises:
            ValueError: it is not within 0 and 1.
        """
        if isinstance(fraction, bool) or not 0 <= fraction <= 1:  # NaN too
            raise ValueError(f"ctx.progress({fraction!r}): give a fraction from 0 to 1, such as done / total.")
        self._say(fraction=float(fraction), message=None if message is None else holdable(str(message)))

    def _say(self, **what: Any) -> None:
        if not self.is_replaying:
            self._engine.streams.say(Said(claim=self._claim, at=self._engine.clock.now(), **what))

    # ------------------------------------------------------------ what it wants

    def on_finish(self, fn: Callable[..., object]) -> None:
        """Have a function called when the run ends, whatever its status: not at eviction, not between two attempts.

        It is called before the end is written, so a crash in between calls it again: at least once. It may be synchronous (it
        gets a thread) or async, and takes nothing, or the status (``"COMPLETED"``, ``"FAILED"``, ``"CANCELLED"``). It may ask
        the engine for nothing. Where a cancel's grace is over, the end waits for nothing: then it is called after that, when the
        function was left, unless the process dies before.

        What it raises is told as a warning and changes nothing. Several are called in the order in which they were given; only
        those count that the last attempt has given.

        Raises:
            DeclarationError: it cannot be called.
        """
        if not callable(fn):
            raise DeclarationError(f"ctx.on_finish takes a function, not {fn!r}.")
        self._engine.finishing.add(self._claim, fn)

    def refresh_timeout(self, increment_by: timedelta | str | float) -> None:
        """Let the attempt work for longer than its `execution_timeout`, by a duration; without one, nothing happens."""
        seconds = parse_duration(increment_by, of="refresh_timeout").total_seconds()
        running = self._running()
        self._engine.post(lambda: running.extend(seconds))

    async def aio_refresh_timeout(self, increment_by: timedelta | str | float) -> None:
        """As `refresh_timeout`, which does not wait either."""
        self.refresh_timeout(increment_by)

    def release_slot(self) -> None:
        """Give back the task's slot and go on without one, for a long wait that needs none; another run takes it.

        Raises:
            DurableError: in a durable task, which gives back its slot by waiting for something of its context.
        """
        running: RegularRun = self._running()
        self._engine.post(running.release_slot)

    async def aio_release_slot(self) -> None:
        """As `release_slot`, which does not wait either."""
        self.release_slot()

    def _running(self) -> Any:
        """The run in memory.

        Raises:
            DurableError: this is not its own code.
        """
        current = CURRENT.get()
        if current is None or current.claim is not self._claim:
            raise DurableError(
                f"The context of run {self._claim.id} was used outside of its task: its time and its slot are its own."
            )
        return current

    def exit_flag(self) -> bool:
        """Hatchet's name for `is_cancelled`."""
        return self.is_cancelled

    def cancel(self) -> None:
        """Cancel the run itself: CancelledError is raised at its next await. Any thread may call it."""
        engine, number = self._engine, self._claim.number
        engine.post(lambda: engine.begin(cancel(engine, number, reason="it cancelled itself")))

    async def aio_cancel(self) -> None:
        """As `cancel`, and wait here for the CancelledError."""
        await cancel(self._engine, self._claim.number, reason="it cancelled itself")
