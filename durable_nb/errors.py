"""Every error a user can meet.

Convention: the message is one or two sentences that say what happened, to which task, run and node, and what to do next.
Control-flow signals that user code must not swallow by accident (`Evicted`) derive from `BaseException`; everything else
derives from `DurableError`, so that `except DurableError` catches what this package raises and nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence


class DurableError(Exception):
    """Base class of every error that durable_nb raises."""


# ---------------------------------------------------------------- declaring and running


class DeclarationError(DurableError):
    """A task, condition or option was declared in a way that cannot work."""


class ArgumentError(DeclarationError, ValueError):
    """An operation was asked with an argument that cannot work. Nothing was asked."""


class UnknownTaskError(DurableError):
    """No task of that name is defined here."""


class UnknownRunError(DurableError):
    """No run with that id, or more than one with that prefix, is in the log."""


class InputValidationError(DurableError, ValueError):
    """An input, event payload or answer does not fit its declared type. Nothing was written.

    Attributes:
        fields: what is wrong where, as far as it is known: the path to a value, such as ``("lines", 0, "amount")``, and why.
    """

    def __init__(self, message: str, fields: Sequence[tuple[tuple[str | int, ...], str]] = ()) -> None:
        self.fields = tuple(fields)
        super().__init__(message)

    def __reduce__(self) -> tuple[type[InputValidationError], tuple[str, tuple[tuple[tuple[str | int, ...], str], ...]]]:
        return type(self), (str(self), self.fields)


class IllegalTaskOutputError(DurableError, TypeError):
    """A task, memo or step gave a value that JSON cannot hold."""


class PayloadTooLargeError(DurableError, ValueError):
    """A payload is larger than the log takes."""


class ArtifactError(DurableError):
    """An artifact of the log is missing, damaged, or not of the form that its payload says; nothing of it was executed."""


class ExpressionError(DurableError, ValueError):
    """A CEL expression does not compile, or is too large or too deep."""


class ExpressionEvaluationError(DurableError):
    """A CEL expression failed on an input: a type that does not fit, a missing field, or its budget ran out."""


class SyncCallError(DurableError, RuntimeError):
    """A sync form was called on the engine's own thread, where it would never return. Use the `aio_` form that is named."""


class ChildKeyConflictError(DurableError):
    """A child key was used again in the same run with another task or input."""


class RateLimitError(DurableError):
    """A run needs a rate limit that is not set, or more units than it ever has. Nothing was written."""


class IdempotencyCollisionError(DurableError):
    """A run of the task has the idempotency key already. Nothing was written.

    Attributes:
        existing_run_id: the id of that run.
    """

    def __init__(self, message: str, existing_run_id: str) -> None:
        self.existing_run_id = existing_run_id
        super().__init__(message)

    def __reduce__(self) -> tuple[type[IdempotencyCollisionError], tuple[str, str]]:
        return type(self), (str(self), self.existing_run_id)


class UnknownScheduleError(DurableError):
    """No cron or scheduled run has that id."""


# ---------------------------------------------------------------- outcomes of runs


class NonRetryableException(DurableError):  # noqa: N818  Hatchet's name
    """Raise this in a task to fail the run at once, whatever retries are left."""


class TaskRunError(DurableError):
    """A run failed.

    Attributes:
        exc: the failure's message.
        exc_type: the name of the exception's class, as it was raised in the task.
        trace: the traceback as text.
        task_run_external_id: the id of the failed run.
        node_id: in a durable task, the checkpoint that brought the failure.
    """

    node_id: int | None = None

    def __init__(self, exc: str, exc_type: str = "Exception", trace: str = "", task_run_external_id: str = "") -> None:
        self.exc = exc
        self.exc_type = exc_type
        self.trace = trace
        self.task_run_external_id = task_run_external_id
        super().__init__(f"{exc_type}: {exc}" if exc else exc_type)

    def __reduce__(self) -> tuple[type[TaskRunError], tuple[str, str, str, str]]:
        return type(self), (self.exc, self.exc_type, self.trace, self.task_run_external_id)


class AskTimeoutError(TaskRunError, TimeoutError):
    """Nobody answered a question within its `timeout`. A retry of the run asks again."""

    def __init__(self, exc: str, exc_type: str = "AskTimeoutError", trace: str = "", task_run_external_id: str = "") -> None:
        super().__init__(exc, exc_type, trace, task_run_external_id)

    def __str__(self) -> str:
        return self.exc


class FailedTaskRunExceptionGroup(ExceptionGroup[TaskRunError], DurableError):  # noqa: N818  Hatchet's name
    """Several runs of one call failed; `.exceptions` holds a TaskRunError for each."""

    def derive(self, excs: Sequence[TaskRunError]) -> FailedTaskRunExceptionGroup:  # type: ignore[override]
        """Keep the class when the group is split."""
        return FailedTaskRunExceptionGroup(self.message, excs)


class RunCancelledError(DurableError):
    """The awaited run was cancelled.

    Attributes:
        node_id: in a durable task, the checkpoint that brought it.
    """

    node_id: int | None = None


class EndedAsCancelled(RunCancelledError):  # noqa: N818  it ends a run, and is no error of it
    """Raised by a program of the engine's own, to end its run as CANCELLED."""


class ParentOutputError(DurableError, ValueError):
    """A task asked for the output of a task that is not its parent, or was skipped."""


class ExecutionTimeoutError(DurableError, TimeoutError):
    """An attempt worked for longer than its `execution_timeout`, waits not counted."""


class ScheduleTimeoutError(DurableError, TimeoutError):
    """A run stood in the queue for longer than its `schedule_timeout`."""


class WorkerLostError(DurableError):
    """The process or the cluster that executed an attempt of a regular task was lost with it. The attempt failed."""


class ShippingError(DurableError):
    """A task cannot be sent to where its executor is: something that it uses cannot leave this process."""


class ElsewhereError(DurableError):
    """A task that executes elsewhere asked for what only the engine's own process has: other tasks, the lifespan, the log."""


class ExecutorError(DurableError):
    """An executor cannot be made, or is not there."""


class NonDeterminismError(DurableError):
    """A replay asked for something else than what the log has recorded at that position.

    Attributes:
        node_id: the checkpoint's number.
        expected: what was recorded there.
        received: what the code asks now.
    """

    def __init__(self, node_id: int, expected: str, received: str) -> None:
        self.node_id = node_id
        self.expected = expected
        self.received = received
        super().__init__(
            f"checkpoint {node_id} was recorded as {expected}, but the code now asks for {received}. "
            "The run is parked, nothing is lost: restore the code it started with, or reset or fork it before this checkpoint."
        )


class Evicted(BaseException):
    """Thrown into a waiting durable task to free its slot; it will be entered again when its wait is over. Let it pass."""


# ---------------------------------------------------------------- steering runs


class RunActiveError(DurableError):
    """The run has not ended, and what was asked for is done to ended or blocked runs only."""


class UnknownCheckpointError(DurableError):
    """The run has no such branch, or no such checkpoint on it."""


class ContinuedAsNew(BaseException):
    """Raised by `ctx.continue_as_new` to leave the function; the run goes on with the new input. Let it pass.

    Attributes:
        input: the new input as JSON text.
        positions: gives how far the run's mailboxes have come.
    """

    def __init__(self, input: str, positions: Callable[[], list[tuple[str, str | None, int, int]]]) -> None:
        self.input = input
        self.positions = positions
        super().__init__("the run goes on with a new input")


# ---------------------------------------------------------------- questions to people


class UnknownQuestionError(DurableError):
    """No question of that id is in this log."""


class QuestionClosedError(DurableError):
    """A question takes no answer any more: its time is over, or its run has ended or stopped waiting for it."""


class AlreadyAnsweredError(QuestionClosedError):
    """Somebody else answered first.

    Attributes:
        answered_by: who, or None where that was not said.
        answered_at: when, UTC seconds since 1970.
    """

    def __init__(self, message: str, answered_by: str | None = None, answered_at: float = 0.0) -> None:
        self.answered_by = answered_by
        self.answered_at = answered_at
        super().__init__(message)

    def __reduce__(self) -> tuple[type[AlreadyAnsweredError], tuple[str, str | None, float]]:
        return type(self), (str(self), self.answered_by, self.answered_at)


# ---------------------------------------------------------------- the log and its owners


class LogError(DurableError):
    """The log cannot be opened, read or written."""


class NotALogError(LogError):
    """The file is no SQLite database, or one that another program made."""


class NewerLogError(LogError):
    """The log was made by a newer version of durable_nb."""


class OtherLayoutError(LogError):
    """The log was made by a version between two releases, whose tables were laid out otherwise."""


class LogUnwritableError(LogError):
    """The log's file or folder cannot be written."""


class UnfitFolderError(LogError):
    """The log would stand in a network folder, or in one that is copied to other machines; nothing was made."""


class LogBusyError(LogError):
    """Another process held the log's write lock for longer than the busy time-out."""


class LogFailedError(LogError):
    """A commit failed (a full disk, an I/O error): the engine stopped, and what was not acknowledged is not in the log."""


class InertLogError(LogError):
    """The log is not in this user's list of known logs, so nothing of it is executed until it is trusted."""


class UntrustedError(DurableError):
    """A definition or a run in the log does not carry this user's signature, so it is not executed."""


class StaleEpochError(DurableError):
    """Another worker owns the run now; the write of its former owner was refused."""


class LifespanError(DurableError):
    """The app object's lifespan failed, so nothing is executed; the runs wait in the log."""


class EngineStoppedError(DurableError):
    """The engine was stopped while the call waited. The run itself is safe in the log."""


# ---------------------------------------------------------------- testing


class NotAtRestError(DurableError, TimeoutError):
    """The engines of a test still had work in hand when its patience was over."""


class UnfinishedRunError(DurableError):
    """A test asked for the result of a run that is at rest and has not ended: the message tells what it waits for."""


def family(error: BaseException) -> list[BaseException]:
    """Give an exception with its causes, contexts and members."""
    found: list[BaseException] = []
    todo: list[BaseException | None] = [error]
    while todo:
        item = todo.pop()
        if item is None or any(item is other for other in found):
            continue
        found.append(item)
        todo += [item.__cause__, item.__context__]
        if isinstance(item, BaseExceptionGroup):
            todo += item.exceptions
    return found


# What no retry mends.
NOT_RETRIED = (NonRetryableException, IllegalTaskOutputError, InputValidationError, PayloadTooLargeError, ShippingError)
