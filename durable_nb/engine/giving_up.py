"""Giving up: the run's own code stops waiting for an ask (it lost a race, its task group failed, its map has enough).

Invariants: that is a fact of the log, written once; the child that was waited for, by this ask alone, is cancelled in the same
transaction, unless it was spawned with `cancel_with_parent=False`. Lives on the engine's loop.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from durable_nb.log import checkpoints, endings
from durable_nb.log.records import Ask, Effects

if TYPE_CHECKING:
    from durable_nb.engine.execution import Execution


def give_up(execution: Execution, node: int, ask: Ask, asked_at: float) -> None:
    """Take down that nobody waits for an ask any more."""
    engine, claim, delivered = execution.engine, execution.claim, execution.cursor.delivered_seq

    def work(connection: sqlite3.Connection) -> Effects:
        execution.fence(connection)
        child = checkpoints.abandon(connection, claim.number, claim.branch, node, ask, asked_at=asked_at, delivered=delivered)
        if child is None:
            return Effects()
        reason = f"its parent {claim.id} waits for it no more"
        return endings.cancel_child(connection, claim.number, child, reason=reason, at=engine.clock.now())

    def tell(effects: Effects) -> None:
        engine.apply(effects)
        if effects.completions:
            engine.timers.look()  # at the end of its grace

    execution.submit(work, tell)
