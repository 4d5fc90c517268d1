"""Reads for views that follow a run: what is new since they looked last, so that a look costs what has happened since.

Invariant: a run's row changes only with a row in the journal, but for a wait that begins (`WAITING`) and lines (`LINES`), so
whoever has read the journal to its end knows which rows to read again.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from durable_nb.log.checkpoints import lineage
from durable_nb.log.payloads import loaded

JOURNAL_END = "SELECT coalesce(max(seq), 0) FROM journal"
JOURNAL = "SELECT DISTINCT run FROM journal WHERE seq > ? AND seq <= ?"
JOURNEY = """
SELECT seq, at, kind FROM journal WHERE run = ? AND seq > ?
  AND kind IN ('entered', 'evicted', 'restored', 'released', 'blocked', 'retried', 'finished', 'continued', 'reset', 'replayed')
ORDER BY seq"""

NODE = """
number, id, task, kind, status, is_evicted, blocked_reason, parent, child_key, child_index, retry_count, ready_at, cancelled_at,
created_at, started_at, finished_at,
substr(json_extract(error, '$.type'), 1, 200), substr(json_extract(error, '$.message'), 1, 400),
progress, substr(progress_message, 1, 200)"""
CHILDREN = f"SELECT {NODE} FROM run WHERE parent = ? AND number > ? ORDER BY number"  # noqa: S608  a constant
RUNS = f"SELECT {NODE} FROM run WHERE number IN (SELECT value FROM json_each(?))"  # noqa: S608
COUNTS = "SELECT parent, count(*) FROM run WHERE parent IN (SELECT value FROM json_each(?)) GROUP BY parent"
WAITING = "SELECT DISTINCT run FROM wait WHERE run IN (SELECT value FROM json_each(?)) AND matched_at IS NULL"
WAITS = """
SELECT wait.branch, wait.node, item, group_number, wait.kind, name, wait.due_at, key, scope, expression, filter_error,
       checkpoint.asked_at, question.text, wait.item = 0 AND wait.schema IS NOT NULL
FROM wait JOIN checkpoint USING (run, branch, node) LEFT JOIN question USING (run, branch, node)
WHERE wait.run = ? AND matched_at IS NULL ORDER BY wait.node, item"""

CHECKPOINT = """
branch, node, kind, substr(ask, 1, 300), line, child, asked_at, seq, recorded_at, error IS NOT NULL, abandoned"""
ASKED = f"SELECT {CHECKPOINT} FROM checkpoint WHERE run = ? AND branch = ? AND node > ? ORDER BY node"  # noqa: S608
ANSWERED = f"SELECT {CHECKPOINT} FROM checkpoint WHERE run = ? AND seq > ? ORDER BY seq"  # noqa: S608
ASKED_AT = f"SELECT {CHECKPOINT} FROM checkpoint WHERE run = ? AND branch = ? AND node = ?"  # noqa: S608
BRANCHES = "SELECT branch FROM branch WHERE run = ?"
PLAN = "SELECT outcome FROM checkpoint WHERE run = ? AND branch = ? AND node = 1 AND kind = 'plan'"

CURRENT_BRANCHES = "SELECT number, branch FROM run WHERE number IN (SELECT value FROM json_each(?))"
FACTS = "SELECT key, invocation_count, blocked_reason, branch FROM run WHERE number = ?"

LINES = (
    "SELECT seq, at, attempt, level, line, substr(text, 1, 2000) FROM line WHERE run = ? AND seq > ? ORDER BY seq DESC LIMIT ?"
)


@dataclass(frozen=True, slots=True)
class NodeRow:
    """A run as a node of a view. Times are UTC seconds; texts are cut."""

    number: int
    id: str
    task: str
    kind: str
    status: str
    is_evicted: int
    blocked_reason: str | None
    parent: int | None
    child_key: str | None
    child_index: int | None
    retry_count: int
    ready_at: float | None
    cancelled_at: float | None
    created_at: float
    started_at: float | None
    finished_at: float | None
    error_type: str | None
    error_message: str | None
    progress: float | None
    progress_message: str | None


@dataclass(frozen=True, slots=True)
class Asked:
    """A checkpoint of a run, without its outcome. `seq` is None while it is open."""

    branch: int
    node: int
    kind: str
    ask: str
    line: int | None
    child: int | None
    asked_at: float
    seq: int | None
    recorded_at: float | None
    is_failed: int
    is_abandoned: int


@dataclass(frozen=True, slots=True)
class OpenWait:
    """An open condition of a run. Conditions of one `group` are alternatives.

    `question` is the text of an ask; `is_question` says whether the inbox shows it.
    """

    branch: int
    node: int
    item: int
    group: int
    kind: str
    name: str
    due_at: float | None
    key: str | None
    scope: str | None
    expression: str | None
    filter_error: str | None
    asked_at: float
    question: str | None
    is_question: bool


@dataclass(frozen=True, slots=True)
class Facts:
    """What the head of a run's view shows beside its node."""

    key: str | None
    invocation_count: int
    blocked_reason: str | None
    branch: int


def run_facts(connection: sqlite3.Connection, number: int) -> Facts:
    """Give a run's facts."""
    return Facts(*connection.execute(FACTS, (number,)).fetchone())


def current_branches(connection: sqlite3.Connection, numbers: Iterable[int]) -> dict[int, int]:
    """Give the branch on which runs are."""
    return dict(connection.execute(CURRENT_BRANCHES, (json.dumps(list(numbers)),)).fetchall())


def journal_end(connection: sqlite3.Connection) -> int:
    """Give the number of the last transition."""
    return int(connection.execute(JOURNAL_END).fetchone()[0])


def changed_runs(connection: sqlite3.Connection, after: int, end: int) -> set[int]:
    """Give the runs with transitions between two numbers of the journal, the second included."""
    return {number for (number,) in connection.execute(JOURNAL, (after, end))}


def new_children(connection: sqlite3.Connection, parent: int, after: int) -> list[NodeRow]:
    """Give the children of a run whose numbers are higher, in order."""
    return [NodeRow(*row) for row in connection.execute(CHILDREN, (parent, after))]


def runs_of(connection: sqlite3.Connection, numbers: Iterable[int]) -> list[NodeRow]:
    """Give runs by number."""
    return [NodeRow(*row) for row in connection.execute(RUNS, (json.dumps(list(numbers)),))]


def child_counts(connection: sqlite3.Connection, numbers: Iterable[int]) -> dict[int, int]:
    """Give how many children runs have, where they have any."""
    return dict(connection.execute(COUNTS, (json.dumps(list(numbers)),)).fetchall())


def waiting_runs(connection: sqlite3.Connection, numbers: Iterable[int]) -> set[int]:
    """Give those runs that have open conditions."""
    return {number for (number,) in connection.execute(WAITING, (json.dumps(list(numbers)),))}


def open_waits(connection: sqlite3.Connection, number: int) -> list[OpenWait]:
    """Give the open conditions of a run, in order."""
    rows = connection.execute(WAITS, (number,)).fetchall()
    return [OpenWait(*(*row[:-2], loaded(connection, row[-2]), bool(row[-1]))) for row in rows]


def new_checkpoints(connection: sqlite3.Connection, number: int, asked: dict[int, int], answered: int) -> list[Asked]:
    """Give the checkpoints of a run that were asked or answered since.

    Args:
        asked: the last node that is known, by branch. answered: the last number in its order of outcomes that is known.
    """
    branches = [1, *(branch for (branch,) in connection.execute(BRANCHES, (number,)) if branch != 1)]
    rows = [row for branch in branches for row in connection.execute(ASKED, (number, branch, asked.get(branch, 0)))]
    return [Asked(*row) for row in [*connection.execute(ANSWERED, (number, answered)), *rows]]


def checkpoints_at(connection: sqlite3.Connection, number: int, places: Collection[tuple[int, int]]) -> list[Asked]:
    """Give the checkpoints of a run at (branch, node)."""
    rows = (connection.execute(ASKED_AT, (number, *place)).fetchone() for place in places)
    return [Asked(*row) for row in rows if row is not None]


def plan_of(connection: sqlite3.Connection, number: int, branch: int) -> dict[str, Any] | None:
    """Give the shape of a workflow's run as it was taken down (see `tasks.workflow.plan_of`); None if it is no workflow's."""
    for ancestor, _, _ in lineage(connection, number, branch):
        row = connection.execute(PLAN, (number, ancestor)).fetchone()
        if row is not None and row[0] is not None:
            plan = json.loads(loaded(connection, row[0]) or "null")
            return plan if isinstance(plan, dict) else None
    return None


def new_lines(connection: sqlite3.Connection, number: int, after: int, *, limit: int) -> list[tuple[Any, ...]]:
    """Give the newest lines of a run as (seq, at, attempt, level, line, text), the oldest of them first; texts are cut."""
    return connection.execute(LINES, (number, after, limit)).fetchall()[::-1]
