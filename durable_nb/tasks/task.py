"""Tasks: what `@durable.task` and `@durable.durable_task` make of a function.

A task knows its name, its types and its options; running it is its host's business (`Host`, which `Durable` is), so that
declarations do no I/O.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Generic, Literal, Protocol, TypeVar, cast, overload

from pydantic import TypeAdapter

from durable_nb.errors import DeclarationError
from durable_nb.tasks.depends import dependencies_of, marked
from durable_nb.tasks.options import TaskOptions
from durable_nb.tasks.payload import ANY, adapter_for, hint_of
from durable_nb.tasks.refs import RunRef

Output = TypeVar("Output")
Kind = Literal["task", "durable_task"]
Lane = str  # "durable", "loop", "thread", or the name of an executor


@dataclass(frozen=True, kw_only=True)
class BulkItem:
    """One run of a bulk call. Made by `Task.create_bulk_run_item`."""

    input: object = None
    child_key: str | None = None
    additional_metadata: Mapping[str, object] | None = None
    priority: int | None = None
    deadline: timedelta | datetime | None = None
    cancel_with_parent: bool = True
    idempotency_key: str | None = None


class Host(Protocol):
    """Who runs tasks.

    Attributes:
        scheduled: single runs to come. cron: crons. queue: pausing.
    """

    scheduled: Any
    cron: Any
    queue: Any

    async def aio_start(self, task: Task[Any], items: Sequence[BulkItem], *, wait: bool) -> list[Any]:
        """Start runs, as children where a task is running; give refs, or outcomes (a value or an exception each) where `wait`."""
        ...

    def call(self, make: Callable[[], Awaitable[Any]], *, aio: str) -> Any:
        """Run an aio form from synchronous code; `aio` is its name, for the error on the engine's own thread."""
        ...


class Declarer(Protocol):
    """What `@durable.task(…)` gives: it makes a task of a function, typed by what the function gives."""

    @overload
    def __call__(self, function: Callable[..., Coroutine[Any, Any, Output]], /) -> Task[Output]: ...
    @overload
    def __call__(self, function: Callable[..., Output], /) -> Task[Output]: ...
    def __call__(self, function: Callable[..., Any], /) -> Task[Any]:
        """Declare the function.

        Raises:
            DeclarationError: it cannot be a task.
        """
        ...


class Task(Generic[Output]):
    """A declared task.

    Attributes:
        name: unique among the tasks of its host.
        kind: ``"task"`` (runs to its end in a slot) or ``"durable_task"`` (checkpointed and evictable).
        version: the hash of its code where that is kept, else None.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        host: Host,
        kind: Kind,
        name: str | None,
        options: TaskOptions,
        version: str | None = None,
        input_validator: Any = None,
        description: str | None = None,
    ) -> None:
        check_signature(function, kind)
        self.function = function
        self.dependencies = dependencies_of(function)
        self.host = host
        self.kind: Kind = kind
        self.name = name or function.__name__
        self.options = options
        self.version = version
        self.is_restored = False
        self.description = description or function.__doc__
        first = next(iter(inspect.signature(function).parameters))
        input_type = input_validator if input_validator is not None else hint_of(function, first)
        self.input_adapter = adapter_for(input_type, of=f"the input of task '{self.name}'")
        self.output_adapter = adapter_for(hint_of(function, "return"), of=f"the output of task '{self.name}'")
        self.cell_adapter: TypeAdapter[Any] | None = None  # what a caller outside of tasks gets, where its classes are others
        self.__name__ = self.name
        self.__doc__ = function.__doc__

    @property
    def lane(self) -> Lane:
        """Where it runs: a durable slot, a slot on the engine's loop, a thread, or a slot of its executor."""
        if self.options.executor is not None:
            return self.options.executor
        if self.kind == "durable_task":
            return "durable"
        return "loop" if inspect.iscoroutinefunction(self.function) else "thread"

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name}>"

    def check_runnable(self) -> None:
        """Refuse (DeclarationError) what cannot be run, or not by itself."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function itself, without the engine: for unit tests of regular tasks."""
        return self.function(*args, **kwargs)

    def create_bulk_run_item(
        self,
        input: object = None,
        *,
        key: str | None = None,
        child_key: str | None = None,
        additional_metadata: Mapping[str, object] | None = None,
        priority: int | None = None,
        deadline: timedelta | datetime | None = None,
        cancel_with_parent: bool = True,
        idempotency_key: str | None = None,
    ) -> BulkItem:
        """Describe one run for `run_many`."""
        return BulkItem(
            input=input,
            child_key=child_key or key,
            additional_metadata=additional_metadata,
            priority=priority,
            deadline=deadline,
            cancel_with_parent=cancel_with_parent,
            idempotency_key=idempotency_key,
        )

    @overload
    async def aio_run(
        self,
        input: object = ...,
        *,
        wait_for_result: Literal[True] = ...,
        child_key: str | None = ...,
        additional_metadata: Mapping[str, object] | None = ...,
        priority: int | None = ...,
        deadline: timedelta | datetime | None = ...,
        cancel_with_parent: bool = ...,
        idempotency_key: str | None = ...,
    ) -> Output: ...
    @overload
    async def aio_run(
        self,
        input: object = ...,
        *,
        wait_for_result: Literal[False],
        child_key: str | None = ...,
        additional_metadata: Mapping[str, object] | None = ...,
        priority: int | None = ...,
        deadline: timedelta | datetime | None = ...,
        cancel_with_parent: bool = ...,
        idempotency_key: str | None = ...,
    ) -> RunRef[Output]: ...
    async def aio_run(
        self,
        input: object = None,
        *,
        wait_for_result: bool = True,
        child_key: str | None = None,
        additional_metadata: Mapping[str, object] | None = None,
        priority: int | None = None,
        deadline: timedelta | datetime | None = None,
        cancel_with_parent: bool = True,
        idempotency_key: str | None = None,
    ) -> Output | RunRef[Output]:
        """Run the task; inside another task as its child, inside a durable task as a checkpoint.

        Args:
            deadline: when the run is cancelled if it has not ended: a duration from now on, or a time with a time zone.
            cancel_with_parent: whether a child is cancelled when the run that spawned it is.
            priority: 1 (low) to 3 (high); the task's default where not given.
            idempotency_key: in place of what the task's `idempotency` makes of the input; where the task has none, the key is
                taken for good.

        Returns:
            The validated output, or at once a ref where `wait_for_result` is False.

        Raises:
            InputValidationError: the input does not fit; nothing was written.
            TaskRunError: the run failed. RunCancelledError: it was cancelled.
            IdempotencyCollisionError: a run with its idempotency key exists; `.existing_run_id` names it, nothing was written.
            RateLimitError: a rate limit of it is not set; nothing was written.
        """
        item = BulkItem(
            input=input,
            child_key=child_key,
            additional_metadata=additional_metadata,
            priority=priority,
            deadline=deadline,
            cancel_with_parent=cancel_with_parent,
            idempotency_key=idempotency_key,
        )
        [result] = await self.host.aio_start(self, [item], wait=wait_for_result)
        return cast("Output", self._raise_first([result])[0]) if wait_for_result else cast("RunRef[Output]", result)

    def run(
        self,
        input: object = None,
        *,
        wait_for_result: bool = True,
        child_key: str | None = None,
        additional_metadata: Mapping[str, object] | None = None,
        priority: int | None = None,
        deadline: timedelta | datetime | None = None,
        cancel_with_parent: bool = True,
        idempotency_key: str | None = None,
    ) -> Any:
        """As `aio_run`, from synchronous code. Not on the engine's own thread (SyncCallError)."""
        options: dict[str, Any] = {
            "wait_for_result": wait_for_result,
            "child_key": child_key,
            "additional_metadata": additional_metadata,
            "priority": priority,
            "deadline": deadline,
            "cancel_with_parent": cancel_with_parent,
            "idempotency_key": idempotency_key,
        }
        return self._in_sync(lambda: self.aio_run(input, **options), "aio_run")

    async def aio_run_many(
        self, items: Sequence[BulkItem], *, return_exceptions: bool = False, wait_for_result: bool = True
    ) -> list[Any]:
        """Run the task once for each item, all written in one transaction; give the outputs (or refs) in the order asked.

        Raises:
            TaskRunError: one of them failed. FailedTaskRunExceptionGroup: several did. Neither if `return_exceptions`.
        """
        results = await self.host.aio_start(self, items, wait=wait_for_result)
        return results if return_exceptions or not wait_for_result else self._raise_first(results)

    def run_many(self, items: Sequence[BulkItem], *, return_exceptions: bool = False, wait_for_result: bool = True) -> list[Any]:
        """As `aio_run_many`, from synchronous code."""
        return self._in_sync(  # type: ignore[no-any-return]
            lambda: self.aio_run_many(items, return_exceptions=return_exceptions, wait_for_result=wait_for_result), "aio_run_many"
        )

    # ------------------------------------------------------------ later, and not now

    async def aio_schedule(
        self,
        run_at: datetime,
        input: object = None,
        *,
        additional_metadata: Mapping[str, object] | None = None,
        priority: int | None = None,
    ) -> Any:
        """Have the task run once at a time that has a time zone: see `durable.scheduled.aio_create`."""
        return await self.host.scheduled.aio_create(
            self, run_at, input, additional_metadata=additional_metadata, priority=priority
        )

    def schedule(self, run_at: datetime, input: object = None, **options: Any) -> Any:
        """As `aio_schedule`, from synchronous code."""
        return self._in_sync(lambda: self.aio_schedule(run_at, input, **options), "aio_schedule")

    async def aio_create_cron(self, cron_name: str, expression: str, input: object = None, **options: Any) -> Any:
        """Have the task run at every tick of a cron expression: see `durable.cron.aio_create`."""
        return await self.host.cron.aio_create(self, cron_name, expression, input, **options)

    def create_cron(self, cron_name: str, expression: str, input: object = None, **options: Any) -> Any:
        """As `aio_create_cron`, from synchronous code."""
        return self._in_sync(lambda: self.aio_create_cron(cron_name, expression, input, **options), "aio_create_cron")

    async def aio_pause(self) -> bool:
        """Claim no queued run of the task from now on, in every process on the log; give whether it was not paused before.

        Runs that were entered go on, also after an eviction; new ones are queued. It lasts until `unpause`, restarts included.
        """
        return await self.host.queue.aio_pause(self.name)  # type: ignore[no-any-return]

    def pause(self) -> bool:
        """As `aio_pause`, from synchronous code."""
        return self._in_sync(self.aio_pause, "aio_pause")  # type: ignore[no-any-return]

    async def aio_unpause(self) -> bool:
        """Claim runs of the task again; give whether it was paused."""
        return await self.host.queue.aio_unpause(self.name)  # type: ignore[no-any-return]

    def unpause(self) -> bool:
        """As `aio_unpause`, from synchronous code."""
        return self._in_sync(self.aio_unpause, "aio_unpause")  # type: ignore[no-any-return]

    def _in_sync(self, make: Callable[[], Awaitable[Any]], aio: str) -> Any:
        return self.host.call(make, aio=f"await {self.name}.{aio}(…)")

    def _raise_first(self, results: list[Any]) -> list[Any]:
        failures = [result for result in results if isinstance(result, BaseException)]
        if len(failures) == 1:
            raise failures[0]
        if failures:
            raise group_of(failures, f"{len(failures)} of {len(results)} runs of {self.name} did not complete")
        return results


def group_of(failures: Sequence[BaseException], message: str) -> BaseException:
    """Give several failures as one: the first that is no run's failure (cancelled, a child key in conflict), else a group."""
    from durable_nb.errors import FailedTaskRunExceptionGroup, TaskRunError

    other = next((failure for failure in failures if not isinstance(failure, TaskRunError)), None)
    return other or FailedTaskRunExceptionGroup(message, [failure for failure in failures if isinstance(failure, TaskRunError)])


def check_signature(function: Callable[..., Any], kind: Kind) -> None:
    """Refuse a function that cannot be a task.

    Raises:
        DeclarationError: with the form that it should have.
    """
    name = getattr(function, "__name__", type(function).__name__)
    form = f"async def {name}(input, ctx)" if kind == "durable_task" else f"def {name}(input, ctx)"
    if not inspect.isfunction(function):
        raise DeclarationError(f"{name} is a {type(function).__name__}, not a function: a task is written as `{form}`.")
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise DeclarationError(f"{name} is a generator: a task returns one output; write `{form}` without yield.")
    if kind == "durable_task" and not inspect.iscoroutinefunction(function):
        raise DeclarationError(
            f"{name} is synchronous, and a durable task must be able to wait: write `{form}`, or make it a regular task."
        )
    injected = marked(function)
    parameters = [p for p in inspect.signature(function).parameters.values() if p.name not in injected]
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(positional) != 2 or len(parameters) != 2 or list(inspect.signature(function).parameters.values())[:2] != parameters:
        raise DeclarationError(
            f"{name} takes ({', '.join(str(p) for p in parameters)}); a task takes its input and its context, "
            f"and after them only parameters marked with Depends: write `{form}`."
        )


__all__ = ["ANY", "BulkItem", "Host", "Kind", "Lane", "Task", "check_signature", "group_of"]
