"""Writing a new run: its key, its idempotency, its places, and who has it first. Inside the caller's transaction."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field

from durable_nb.log import idempotency, limits, queue, runs
from durable_nb.log.endings import cancel
from durable_nb.log.records import Effects, NewRun


@dataclass(slots=True)
class Started:
    """What came of a run that was to be written.

    Attributes:
        is_claimed: it is owned by the worker that was given.
        effects: of the runs that were cancelled by it, perhaps itself.
    """

    number: int
    is_new: bool = True
    is_claimed: bool = False
    effects: Effects = field(default_factory=Effects)


def start_run(connection: sqlite3.Connection, run: NewRun, *, at: float, worker: str | None) -> Started:
    """Write a new run: claimed by `worker`, which has a slot for it, where nothing speaks against it; else queued.

    Raises:
        IdempotencyCollisionError: another run has its idempotency key. RateLimitError: it can never have its units.
        Whatever is raised, nothing was written.
    """
    existing = runs.find_key(connection, run)
    if existing is not None:
        return Started(existing, is_new=False)
    idempotency.refuse_twin(connection, run, at=at)
    crowds, effects = limits.crowds_of(connection, run.needs), Effects()
    reason = limits.supersede(connection, run, crowds, effects, at=at)
    lineup = limits.lineup_of(run, crowds)
    is_let_in = reason is None and (lineup is None or limits.may_enter(connection, lineup, crowds, at=at))
    is_claimed = is_let_in and worker is not None and not queue.is_paused(connection, run.task)
    gate = 2 if is_claimed or not crowds else int(is_let_in)
    number = runs.create_run(connection, run, at=at, worker=worker if is_claimed else None, lineup=lineup, gate=gate)
    if lineup is not None:
        limits.enter(connection, number, lineup, run.priority, crowds, is_let_in=is_let_in, is_claimed=is_claimed, at=at)
    idempotency.keep_key(connection, run, number, at=at)
    if reason is not None:
        effects.add(cancel(connection, number, reason=reason, at=at)[1])
    return Started(number, is_claimed=is_claimed, effects=effects)
