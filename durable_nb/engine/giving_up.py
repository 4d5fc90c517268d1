"""Giving up: the run's own code stops waiting for an ask (it lost a race, its task group failed, its map has enough).

Invariants: that is a fact of the log, written once. A child that lost, since a select or map around it was satisfied without
it, is cancelled in the same transaction, unless somebody else waits for it or it was spawned with `cancel_with_parent=False`.
One that an error had its code stop waiting for goes on, since the next attempt waits for it again.

Lives on the engine's loop.
"""

from __future__ import annotations

import asyncio
import sqlite3
from contextvars import ContextVar
from typing import TYPE_CHECKING

from durable_nb.log import checkpoints, endings
from durable_nb.log.records import Ask, Effects

if TYPE_CHECKING:
    from durable_nb.engine.execution import Execution


LOST = (
    "a race was won without it"  # with what a loser is cancelled: asyncio hands it on to all that it awaits, but for task groups
)


class Race:
    """Several coroutines of which the first to complete is taken; what the others begin inherits it with their context."""

    is_won = False


RACES: ContextVar[tuple[Race, ...]] = ContextVar("RACES", default=())


def has_lost(error: asyncio.CancelledError) -> bool:
    """Whether a coroutine was cancelled since a race around it was won without it."""
    return LOST in error.args or any(race.is_won for race in RACES.get())


def give_up(execution: Execution, node: int, ask: Ask, asked_at: float, *, is_lost: bool = False) -> None:
    """Take down that nobody waits for an ask any more.

    Args:
        is_lost: what it asked for is not needed.
    """
    engine, claim, delivered = execution.engine, execution.claim, execution.cursor.delivered_seq

    def work(connection: sqlite3.Connection) -> Effects:
        execution.fence(connection)
        child = checkpoints.abandon(connection, claim.number, claim.branch, node, ask, asked_at=asked_at, delivered=delivered)
        if child is None or not is_lost:
            return Effects()
        reason = f"its parent {claim.id} needs it no more"
        return endings.cancel_child(connection, claim.number, child, reason=reason, at=engine.clock.now())

    def tell(effects: Effects) -> None:
        engine.apply(effects)
        if effects.completions:
            engine.timers.look()  # at the end of its grace

    execution.submit(work, tell)
