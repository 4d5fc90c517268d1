"""How an invocation is left: what came of it, and what becomes of the code that goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from durable_nb.engine.continuing import onward_of
from durable_nb.engine.cursor import Cursor
from durable_nb.errors import ExecutionTimeoutError, NonDeterminismError, family
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


async def sweep(tasks: Collection[asyncio.Task[Any]], warn: Callable[[str], None], of: str) -> None:
    """Cancel what a function left running; name what does not stop.

    Args:
        of: the run, for the warning.
    """
    for task in tasks:
        task.cancel()
    _, stubborn = await asyncio.wait(tasks, timeout=LEAVE_SECONDS)
    for task in stubborn:
        warn(f"{of} left {task.get_name()} running; it can write nothing any more.")
