"""Writing a new run: its key, its idempotency, its places, and who has it first. Inside the caller's transaction."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass, field

from durable_nb.errors import IdempotencyCollisionError
from durable_nb.log import limits, queue, runs
from durable_nb.log.endings import cancel
from durable_nb.log.records import Effects, NewRun

FIND_TWIN = """
SELECT run.id, run.status, expires_at, statuses FROM idempotency JOIN run ON run.number = idempotency.run
WHERE idempotency.task = ? AND idempotency.key = ?"""


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
    _refuse_twin(connection, run, at=at)
    crowds, effects = limits.crowds_of(connection, run.needs), Effects()
    reason = limits.supersede(connection, run, crowds, effects, at=at)
    lineup = limits.lineup_of(run, crowds)
    is_let_in = reason is None and (lineup is None or limits.may_enter(connection, lineup, crowds, at=at))
    is_claimed = is_let_in and worker is not None and not queue.is_paused(connection, run.task)
    gate = 2 if is_claimed or not crowds else int(is_let_in)
    number = runs.create_run(connection, run, at=at, worker=worker if is_claimed else None, lineup=lineup, gate=gate)
    if lineup is not None:
        limits.enter(connection, number, lineup, run.priority, crowds, is_let_in=is_let_in, is_claimed=is_claimed, at=at)
    if run.idempotency is not None:
        _keep_key(connection, run, number, at=at)
    if reason is not None:
        effects.add(cancel(connection, number, reason=reason, at=at)[1])
    return Started(number, is_claimed=is_claimed, effects=effects)


def _refuse_twin(connection: sqlite3.Connection, run: NewRun, *, at: float) -> None:
    if run.idempotency is None:
        return
    row = connection.execute(FIND_TWIN, (run.task, run.idempotency.key)).fetchone()
    if row is None:
        return
    run_id, status, expires_at, statuses = row
    if (expires_at is None or at < expires_at) and (statuses is None or status in json.loads(statuses)):
        raise IdempotencyCollisionError(
            f"A run of '{run.task}' with the idempotency key '{run.idempotency.key}' exists: {run_id} ({status}). "
            "Nothing was written.",
            run_id,
        )


def _keep_key(connection: sqlite3.Connection, run: NewRun, number: int, *, at: float) -> None:
    given = run.idempotency
    assert given is not None  # noqa: S101  the caller has asked
    expires_at = None if given.seconds is None else at + given.seconds
    statuses = None if given.statuses is None else json.dumps(list(given.statuses))
    connection.execute(
        "INSERT OR REPLACE INTO idempotency VALUES (?, ?, ?, ?, ?)", (run.task, given.key, number, expires_at, statuses)
    )
