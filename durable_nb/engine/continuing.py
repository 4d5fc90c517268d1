"""Continuing a run as new: its function is left by a signal, and the run entered again with another input and an empty history.

Invariant: the old history ends and the new one begins in one transaction, with the new input signed as a new run's would be.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from durable_nb.errors import ContinuedAsNew
from durable_nb.log import endings, histories
from durable_nb.log.records import NewRun

if TYPE_CHECKING:
    from durable_nb.engine.execution import Execution


def onward_of(error: BaseException | None) -> ContinuedAsNew | None:
    """Give the signal that a function was left by, alone or as all that a task group raised; None for any other error."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error if isinstance(error, ContinuedAsNew) else None


async def continue_run(execution: Execution, onward: ContinuedAsNew) -> bool:
    """End the history of a run that was left, and queue its next; give whether it goes on: a cancelled one does not.

    Raises:
        StaleEpochError: another worker owns the run.
    """
    engine, claim, delivered = execution.engine, execution.claim, execution.cursor.delivered_seq
    run = NewRun(id=claim.id, task=claim.task, kind=claim.kind, version=claim.version, input=onward.input)
    signature, positions, at = engine.sign(run), onward.positions(), engine.clock.now()

    def work(connection: sqlite3.Connection) -> bool:
        if endings.is_cancelled(connection, claim.number):
            return False
        histories.begin(
            connection,
            claim.number,
            claim.epoch,
            branch=claim.branch,
            input=onward.input,
            signature=signature,
            positions=positions,
            delivered=delivered,
            at=at,
        )
        return True

    goes_on = await engine.writer.submit(work)
    engine.dispatcher.look()
    return goes_on
