"""Cancelling: from the request, which is a fact in the log, to the code that it stops.

Invariants: the request is one transaction, and says for every run below the cancelled one how it goes on; memory is told after
the commit, by whoever made it or by the watch of the process that owns the run. Lives on the engine's loop.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from durable_nb.log import endings
from durable_nb.log.records import Effects

if TYPE_CHECKING:
    from durable_nb.engine.engine import Engine

BATCH = 500


async def cancel(engine: Engine, number: int, *, reason: str) -> bool:
    """Ask for the cancel of a run; give whether it had not ended."""
    at = engine.clock.now()

    def work(connection: sqlite3.Connection) -> tuple[bool, Effects]:
        return endings.cancel(connection, number, reason=reason, at=at)

    is_done, _ = await engine.writer.submit(work, lambda result: engine.apply(result[1]))
    engine.timers.look()  # at the end of its grace
    return is_done


async def end_due(engine: Engine, now: float) -> None:
    """Cancel runs whose deadline has passed, and leave those whose grace is over."""
    await engine.writer.submit(lambda connection: endings.end_due(connection, at=now, limit=BATCH), engine.apply)


def leave(engine: Engine, number: int) -> None:
    """Have a run's code left that may write nothing any more."""
    engine.dispatcher.ended(number)  # perhaps elsewhere: whoever waits from now on has to look
    execution, regular = engine.executions.get(number), engine.regular_runs.get(number)
    if execution is not None:
        execution.leave()
    if regular is not None:
        regular.leave()
