"""Idempotency keys: which run of a task has one. Inside the caller's transaction.

Invariant: a key that holds has one run at a time, whether others are new or are replayed.
"""

from __future__ import annotations

import json
import sqlite3

from durable_nb.errors import IdempotencyCollisionError
from durable_nb.log.records import NewRun

FIND_TWIN = """
SELECT run.id, run.status, expires_at, statuses, run.number FROM idempotency JOIN run ON run.number = idempotency.run
WHERE idempotency.task = ? AND idempotency.key = ?"""


def refuse_twin(connection: sqlite3.Connection, run: NewRun, *, at: float) -> None:
    """Refuse a new run whose key another one has.

    Raises:
        IdempotencyCollisionError: with the id of that run.
    """
    if run.idempotency is not None:
        _refuse(connection, run.task, run.idempotency.key, None, at=at)


def keep_key(connection: sqlite3.Connection, run: NewRun, number: int, *, at: float) -> None:
    """Give a new run the key that it came with, if any."""
    given = run.idempotency
    if given is None:
        return
    expires_at = None if given.seconds is None else at + given.seconds
    statuses = None if given.statuses is None else json.dumps(list(given.statuses))
    connection.execute(
        "INSERT OR REPLACE INTO idempotency VALUES (?, ?, ?, ?, ?)", (run.task, given.key, number, expires_at, statuses)
    )


def take_again(connection: sqlite3.Connection, number: int, *, at: float) -> None:
    """Give a run that has ended and is to go on its key again.

    Raises:
        IdempotencyCollisionError: another run has it meanwhile.
    """
    task, key = connection.execute("SELECT task, idempotency_key FROM run WHERE number = ?", (number,)).fetchone()
    if key is not None:
        _refuse(connection, task, key, number, at=at)
        connection.execute("UPDATE idempotency SET run = ? WHERE task = ? AND key = ?", (number, task, key))


def _refuse(connection: sqlite3.Connection, task: str, key: str, number: int | None, *, at: float) -> None:
    row = connection.execute(FIND_TWIN, (task, key)).fetchone()
    if row is None or row[4] == number:
        return
    run_id, status, expires_at, statuses, _ = row
    if (expires_at is None or at < expires_at) and (statuses is None or status in json.loads(statuses)):
        raise IdempotencyCollisionError(
            f"A run of '{task}' with the idempotency key '{key}' exists: {run_id} ({status}). Nothing was written.", run_id
        )
