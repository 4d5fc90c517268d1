"""Reads and transactions on the runs of workflows, whose tasks are children of theirs.

Invariant: what a task sees of the others lies in the lineage of the branch that asked for it, so that a reset or a retry of the
workflow's run takes nothing from under a task that runs.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from dataclasses import dataclass, field

from durable_nb.log.checkpoints import branch_of
from durable_nb.log.journal import journal
from durable_nb.log.payloads import loaded
from durable_nb.log.records import Failure, Outcome

ASKED_BY = "SELECT branch FROM checkpoint INDEXED BY checkpoint_child WHERE child = ? AND run = ?"  # else a whole run is read

ENDED_SIBLINGS = """
SELECT branch, node, fingerprint FROM checkpoint
WHERE run = ? AND kind IN ('child', 'skip') AND seq IS NOT NULL AND hex(fingerprint) IN (SELECT value FROM json_each(?))"""

OUTCOME = "SELECT outcome, error FROM checkpoint WHERE run = ? AND branch = ? AND node = ?"

PLAN = """
SELECT run.task, checkpoint.outcome FROM checkpoint JOIN run ON run.number = checkpoint.run
WHERE checkpoint.run = ? AND checkpoint.branch = ? AND node = 1 AND checkpoint.kind = 'plan'"""

UNPARK = """
UPDATE run SET blocked_reason = NULL, ready_at = ?, epoch = epoch + 1
WHERE task = ? AND version = ? AND blocked_reason LIKE 'It diverged:%' RETURNING number, branch"""

GRANDPARENT = """
SELECT grandparent.id FROM run JOIN run AS grandparent ON grandparent.number = run.parent WHERE run.number = ?"""


@dataclass(frozen=True)
class Ended:
    """What a task of a workflow may know of the others.

    Attributes:
        outcomes: of checkpoints, by fingerprint.
        parent_id: of the run that spawned the workflow's.
    """

    outcomes: dict[bytes, Outcome] = field(default_factory=dict)
    parent_id: str | None = None


def load_ended(connection: sqlite3.Connection, workflow: int, task_run: int, fingerprints: Collection[bytes]) -> Ended:
    """Give the outcomes of a workflow's run that one of its tasks may see.

    Args:
        workflow: the number of the workflow's run. task_run: that of the task's run.
        fingerprints: of the checkpoints that are asked for.
    """
    row = connection.execute(GRANDPARENT, (workflow,)).fetchone()
    ended = Ended(parent_id=row[0] if row else None)
    asked_by = connection.execute(ASKED_BY, (task_run, workflow)).fetchone()
    if not fingerprints or asked_by is None:
        return ended
    wanted = json.dumps([fingerprint.hex().upper() for fingerprint in fingerprints])
    for branch, node, fingerprint in connection.execute(ENDED_SIBLINGS, (workflow, wanted)).fetchall():
        if branch_of(connection, workflow, asked_by[0], node) == branch:
            value, error = connection.execute(OUTCOME, (workflow, branch, node)).fetchone()
            ended.outcomes[fingerprint] = Outcome(loaded(connection, value), Failure.from_json(error) if error else None)
    return ended


def plan_of_child(connection: sqlite3.Connection, workflow: int, task_run: int) -> tuple[str, str] | None:
    """Give name and shape (JSON) of a workflow's run where it asked for one of its children; None, if it is no workflow's."""
    asked_by = connection.execute(ASKED_BY, (task_run, workflow)).fetchone()
    branch = branch_of(connection, workflow, asked_by[0], 1) if asked_by else None
    row = connection.execute(PLAN, (workflow, branch)).fetchone()
    return (row[0], loaded(connection, row[1]) or "{}") if row else None


def priority_of(connection: sqlite3.Connection, number: int) -> int:
    """Give a run's priority."""
    return int(connection.execute("SELECT priority FROM run WHERE number = ?", (number,)).fetchone()[0])


def unpark_diverged(connection: sqlite3.Connection, task: str, version: str, *, at: float) -> int:
    """Let the runs of a task try again that were started with this version and diverged; give their number."""
    rows = connection.execute(UNPARK, (at, task, version)).fetchall()
    for number, branch in rows:
        journal(connection, number, at, "unblocked", {"branch": branch})
    return len(rows)
