"""Everything the log knows of one run, as plain frozen records in one snapshot."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass

from durable_nb.log.reads import CheckpointView, WaitView, find_run, list_checkpoints, list_waits
from durable_nb.log.records import RunView


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildView:
    """A run that was spawned by another.

    Attributes:
        node: the checkpoint that spawned it, on the branch `branch`; None, where a regular task did.
    """

    id: str
    number: int
    task: str
    status: str
    child_key: str | None
    branch: int | None
    node: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt at a run. Times are UTC seconds.

    Attributes:
        number: from 1.
        entered: how often its function was entered: once, and after each eviction and crash.
        ended: how: ``"COMPLETED"``, ``"FAILED"``, ``"CANCELLED"``, ``"retried"``, ``"blocked"``, ``"reset"``; None: not yet.
        error: type and message, where it failed.
    """

    number: int
    started_at: float | None
    ended_at: float | None
    entered: int
    ended: str | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDetails:
    """A run with all that belongs to it.

    Attributes:
        checkpoints: of all branches, by node. waits: the open conditions.
    """

    run: RunView
    checkpoints: tuple[CheckpointView, ...]
    children: tuple[ChildView, ...]
    waits: tuple[WaitView, ...]
    attempts: tuple[Attempt, ...]


CHILDREN = """
SELECT run.id, run.number, run.task, run.status, run.child_key, checkpoint.branch, checkpoint.node
FROM run LEFT JOIN checkpoint ON checkpoint.child = run.number AND checkpoint.run = run.parent
WHERE run.parent = ? GROUP BY run.number ORDER BY run.number"""

JOURNAL = "SELECT at, kind, data FROM journal WHERE run = ? ORDER BY seq"


def details_of(connection: sqlite3.Connection, name: str) -> RunDetails:
    """Give a run's details.

    Raises:
        UnknownRunError: no run has that name, or several do.
    """
    connection.execute("BEGIN")
    try:
        run = find_run(connection, name)
        names = ("id", "number", "task", "status", "child_key", "branch", "node")
        return RunDetails(
            run=run,
            checkpoints=tuple(list_checkpoints(connection, run.number)),
            children=tuple(
                ChildView(**dict(zip(names, row, strict=True))) for row in connection.execute(CHILDREN, (run.number,))
            ),
            waits=tuple(list_waits(connection, run.number)),
            attempts=tuple(attempts_of(connection.execute(JOURNAL, (run.number,)).fetchall())),
        )
    finally:
        connection.execute("COMMIT")


def attempts_of(journal: list[tuple[float, str, str | None]]) -> list[Attempt]:
    """Give the attempts that a run's transitions tell of."""
    attempts: list[Attempt] = []
    started: float | None = None
    entered = 0
    for at, kind, text in journal:
        data = json.loads(text or "{}")
        if kind == "entered":
            started, entered = started if started is not None else at, entered + 1
        elif kind in ("finished", "retried", "blocked"):
            ended = str(data["status"]) if kind == "finished" else kind
            error = f"{data['type']}: {data['message']}" if data.get("type") else data.get("reason")
            attempts.append(_attempt(len(attempts), started, at, entered, ended, error))
            started, entered = None, 0
        elif kind == "reset" and entered:
            attempts.append(_attempt(len(attempts), started, at, entered, "reset", None))
            started, entered = None, 0
    if entered:
        attempts.append(_attempt(len(attempts), started, None, entered, None, None))
    return attempts


def _attempt(
    before: int, started_at: float | None, ended_at: float | None, entered: int, ended: str | None, error: str | None
) -> Attempt:
    return Attempt(number=before + 1, started_at=started_at, ended_at=ended_at, entered=entered, ended=ended, error=error)
