"""How an invocation is left: what came of it, and what becomes of the code that goes on."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from types import AsyncGeneratorType
from typing import TYPE_CHECKING, Any

from durable_nb.engine.continuing import onward_of
from durable_nb.engine.cursor import Cursor
from durable_nb.engine.loop import Moves
from durable_nb.engine.waiting import throw
from durable_nb.errors import Evicted, ExecutionTimeoutError, NonDeterminismError, family
from durable_nb.log.records import Outcome
from durable_nb.tasks.options import format_duration

if TYPE_CHECKING:
    from durable_nb.tasks.task import Task

LEAVE_SECONDS = 1.0  # that a function has to unwind


@dataclass(frozen=True, slots=True)
class Left:
    """How an invocation ended: an output, an error, a reason to park, cancelled, to be replayed, or (none of them) evicted."""

    outcome: Outcome | None = None
    error: BaseException | None = None
    parked: NonDeterminismError | None = None
    is_cancelled: bool = False
    is_replayed: bool = False


def left_by(main: asyncio.Task[Any], cursor: Cursor) -> Left:
    """Give how a function was left that went its own way to its end."""
    error = asyncio.CancelledError("the task cancelled itself") if main.cancelled() else main.exception()
    if cursor.diverged and (error is None or cursor.diverged in family(error)):
        return Left(parked=cursor.diverged)
    if error is not None and onward_of(error) is None:
        return Left(error=error)
    try:
        cursor.finish()
    except NonDeterminismError as divergence:
        return Left(parked=divergence)
    return Left(error=error) if error is not None else Left(outcome=Outcome(main.result()))


def timed_out(task: Task[Any]) -> Left:
    """Give how a function was left that worked for too long."""
    limit = format_duration(task.options.execution_timeout or 0)
    return Left(error=ExecutionTimeoutError(f"Task '{task.name}' worked for longer than its execution_timeout of {limit}."))


def tell(tasks: Collection[asyncio.Task[Any]], *, for_many: bool = False) -> None:
    """Raise Evicted in those tasks of a run that wait for one another, not for an ask (see `waiting.throw`)."""
    for task in tasks:
        throw(task, Evicted(), for_many=for_many)


def cancel_rest(tasks: Iterable[asyncio.Task[Any]], then: Callable[[], None]) -> None:
    """Cancel what a cancelled function left running, one after the other as it was begun: it may clean up too, before `then`."""
    rest = [task for task in tasks if not task.done()]
    left = set(rest)

    def stopped(task: asyncio.Task[Any]) -> None:
        left.discard(task)
        if not left:
            then()

    for task in rest:
        task.add_done_callback(stopped, context=contextvars.Context())
        task.cancel()
    if not rest:
        then()


async def sweep(moves: Moves, warn: Callable[[str], None], of: str, *, is_evicted: bool) -> bool:
    """Stop what a function left running, and close its async generators; name what does not stop; give whether there was any.

    Args:
        of: the run, for the warning.
    """
    left = {task for task in moves.tasks if not task.done()}
    for task in left:
        if not (is_evicted and throw(task, Evicted())):
            task.cancel()
    stubborn = await _stopped(left)
    closing = {_closing(generator, context) for generator, context in list(moves.generators.items()) if not generator.ag_running}
    for task in stubborn | await _stopped(closing):
        warn(f"{of} left {task.get_name()} running; it can write nothing any more.")
    return bool(left or closing)


async def _stopped(tasks: set[asyncio.Task[Any]]) -> set[asyncio.Task[Any]]:
    """Wait for tasks to stop; give those that do not."""
    if not tasks:
        return tasks
    _, stubborn = await asyncio.wait(tasks, timeout=LEAVE_SECONDS)
    return stubborn


def _closing(generator: AsyncGeneratorType[Any, Any], context: contextvars.Context) -> asyncio.Task[None]:
    async def close() -> None:
        await generator.aclose()

    return asyncio.get_running_loop().create_task(close(), name=f"the end of {generator.__qualname__}", context=context)
