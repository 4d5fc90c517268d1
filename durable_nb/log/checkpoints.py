"""Transactions on checkpoints: what a durable task asked, and the order in which outcomes reach it.

Invariants: an outcome is written once; it gets the run's next sequence number in the very transaction that records it, and
that number is the order of delivery for ever; a run that nobody owns becomes ready in the same transaction.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from typing import Any

from durable_nb.log.payloads import loaded, stored
from durable_nb.log.records import NEVER, Ask, Completion, Failure, Outcome, Recorded
from durable_nb.log.runs import stale

INSERT_ASK = """
INSERT INTO checkpoint (run, branch, node, kind, ask, fingerprint, line, child, asked_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"""

INSERT_DONE = """
INSERT INTO checkpoint (run, branch, node, kind, ask, fingerprint, line, asked_at, seq, recorded_at, outcome, error)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""

NEXT_SEQ = """
UPDATE run SET last_seq = last_seq + 1,
               ready_at = CASE WHEN owner IS NULL AND status = 'RUNNING' AND blocked_reason IS NULL
                               THEN coalesce(ready_at, ?) ELSE ready_at END
WHERE number = ? RETURNING last_seq, owner"""

NEXT_SEQ_OF_OWNER = "UPDATE run SET last_seq = last_seq + 1 WHERE number = ? AND epoch = ? RETURNING last_seq, owner"

SATISFY = """
UPDATE checkpoint SET seq = ?, recorded_at = ?, outcome = ?, error = ?
WHERE run = ? AND branch = ? AND node = ? AND seq IS NULL"""

HISTORY = """
SELECT node, kind, ask, fingerprint, asked_at, seq, outcome, error, abandoned, child, line, recorded_at FROM checkpoint
WHERE run = ? AND branch = ? AND node < ? ORDER BY node"""

ABANDON = "UPDATE checkpoint SET abandoned = ? WHERE run = ? AND branch = ? AND node = ? RETURNING kind, child"
WAITED_FOR = "SELECT 1 FROM checkpoint WHERE child = ? AND seq IS NULL AND abandoned = 0 LIMIT 1"

NO_PARENT = 0  # of a branch that inherits nothing

ARRIVED = """
SELECT run, seq, node, branch, outcome, error, NULL AS after FROM checkpoint WHERE run = :run AND seq > :seq
UNION ALL
SELECT run, seq, 0, branch, NULL, NULL, after FROM cancel WHERE run = :run AND seq > :seq
ORDER BY seq"""


def add_ask(
    connection: sqlite3.Connection, run: int, branch: int, node: int, ask: Ask, *, at: float, child: int | None = None
) -> None:
    """Write what was asked; its outcome comes later."""
    connection.execute(INSERT_ASK, (run, branch, node, ask.kind, ask.words, ask.fingerprint, ask.line, child, at))


def add_done(
    connection: sqlite3.Connection,
    run: int,
    branch: int,
    node: int,
    ask: Ask,
    outcome: Outcome,
    *,
    epoch: int | None = None,
    asked_at: float,
    at: float,
) -> Completion:
    """Write an ask together with its outcome, in one row: memo and step.

    Args:
        epoch: the owner's, where this is how it shows it; None where the transaction has seen it.

    Raises:
        StaleEpochError: the epoch is not the run's.
    """
    seq, owner = next_seq(connection, run, at) if epoch is None else _next_seq_of_owner(connection, run, epoch)
    error = outcome.failure.to_json() if outcome.failure else None
    value = stored(connection, outcome.value)
    connection.execute(
        INSERT_DONE, (run, branch, node, ask.kind, ask.words, ask.fingerprint, ask.line, asked_at, seq, at, value, error)
    )
    return Completion(run, seq, node, branch, outcome, owner)


def complete(
    connection: sqlite3.Connection, run: int, branch: int, node: int, outcome: Outcome, *, at: float
) -> Completion | None:
    """Record the outcome of a checkpoint that waits; None if it has one already."""
    open_row = connection.execute(
        "SELECT 1 FROM checkpoint WHERE run = ? AND branch = ? AND node = ? AND seq IS NULL", (run, branch, node)
    )
    if open_row.fetchone() is None:
        return None
    seq, owner = next_seq(connection, run, at)
    error = outcome.failure.to_json() if outcome.failure else None
    connection.execute(SATISFY, (seq, at, stored(connection, outcome.value), error, run, branch, node))
    return Completion(run, seq, node, branch, outcome, owner)


def complete_waiting_on(connection: sqlite3.Connection, child: int, outcome: Outcome, *, at: float) -> list[Completion]:
    """Satisfy every checkpoint that waits for the end of a run."""
    rows = connection.execute("SELECT run, branch, node FROM checkpoint WHERE child = ? AND seq IS NULL", (child,)).fetchall()
    completions = (complete(connection, run, branch, node, outcome, at=at) for run, branch, node in rows)
    return [completion for completion in completions if completion is not None]


def abandon(
    connection: sqlite3.Connection, run: int, branch: int, node: int, ask: Ask, *, asked_at: float, delivered: int
) -> int | None:
    """Take down that the run's own code stopped waiting for a checkpoint; a memo or step in flight has no row until then.

    Args:
        delivered: the last sequence number that the run was given.

    Returns:
        The child that only this checkpoint waited for, if the run made it there.
    """
    asked_on = branch_of(connection, run, branch, node)
    if asked_on is None:
        add_ask(connection, run, branch, node, ask, at=asked_at)
    branch = asked_on or branch
    place = (run, branch, node)
    (kind, child) = connection.execute(ABANDON, (1 + delivered, *place)).fetchone()
    connection.execute("DELETE FROM wait WHERE run = ? AND branch = ? AND node = ?", place)
    is_alone = kind == "child" and child is not None and connection.execute(WAITED_FOR, (child,)).fetchone() is None
    return int(child) if is_alone else None


def load_history(connection: sqlite3.Connection, run: int, branch: int) -> list[Recorded]:
    """Give all checkpoints of a branch's lineage, in order of node."""
    found: dict[int, Recorded] = {}
    for ancestor, limit, dropped in lineage(connection, run, branch):
        for row in connection.execute(HISTORY, (run, ancestor, limit)):
            if row[0] not in dropped and row[0] not in found:
                found[row[0]] = _recorded(connection, row, ancestor)
    return [found[node] for node in sorted(found)]


def branch_of(connection: sqlite3.Connection, run: int, branch: int, node: int) -> int | None:
    """Give the branch in whose rows `node` of this branch's lineage lies, or None."""
    for ancestor, limit, dropped in lineage(connection, run, branch):
        row = connection.execute(
            "SELECT 1 FROM checkpoint WHERE run = ? AND branch = ? AND node = ?", (run, ancestor, node)
        ).fetchone()
        if row and node < limit and node not in dropped:
            return ancestor
    return None


def lineage(connection: sqlite3.Connection, run: int, branch: int) -> Iterator[tuple[int, int, frozenset[int]]]:
    """From a branch to the first: (branch, nodes below which are inherited, nodes that a younger branch dropped)."""
    limit, dropped = NEVER, frozenset[int]()
    while True:
        yield branch, limit, dropped
        row = connection.execute("SELECT parent, cut, dropped FROM branch WHERE run = ? AND branch = ?", (run, branch)).fetchone()
        if row is None or row[0] == NO_PARENT:
            return
        branch, limit, dropped = row[0], min(limit, row[1]), dropped | frozenset(json.loads(row[2]))


def first_branch(connection: sqlite3.Connection, run: int, branch: int) -> int:
    """Give the branch with which the history that `branch` belongs to began: 1, or where the run was continued as new."""
    *_, (first, _, _) = lineage(connection, run, branch)
    return first


def input_of(connection: sqlite3.Connection, run: int, branch: int) -> tuple[str | bytes, bytes | None] | None:
    """Give the input column and the signature of a history that was continued as new; None for the first one."""
    if branch == 1:
        return None
    return connection.execute(  # type: ignore[no-any-return]
        "SELECT input, signature FROM history WHERE run = ? AND branch = ?", (run, first_branch(connection, run, branch))
    ).fetchone()


def seq_before(connection: sqlite3.Connection, run: int, branch: int) -> int:
    """Give the last sequence number that belongs to earlier histories of the run."""
    return _before(connection, run, branch)[0]


def run_before(connection: sqlite3.Connection, run: int, branch: int) -> int:
    """Give the run number above which the children of this history lie."""
    return _before(connection, run, branch)[1]


def _before(connection: sqlite3.Connection, run: int, branch: int) -> tuple[int, int]:
    first = 1 if branch == 1 else first_branch(connection, run, branch)
    row = connection.execute("SELECT seq_before, run_before FROM history WHERE run = ? AND branch = ?", (run, first)).fetchone()
    return row or (0, 0)


def arrived_since(connection: sqlite3.Connection, run: int, seq: int) -> list[Completion]:
    """Give the completions and cancels of a run above `seq`, whoever wrote them, in order."""
    return [
        Completion(row[0], row[1], row[2], row[3], _outcome(connection, row[4], row[5]), after=row[6])
        for row in connection.execute(ARRIVED, {"run": run, "seq": seq})
    ]


def last_seq(connection: sqlite3.Connection, run: int) -> int:
    """Give the last place that was taken in a run's order of delivery."""
    return int(connection.execute("SELECT last_seq FROM run WHERE number = ?", (run,)).fetchone()[0])


def next_seq(connection: sqlite3.Connection, run: int, at: float) -> tuple[int, str | None]:
    """Take a run's next place in its order of delivery; give it with the run's owner. Where nobody owns it, it becomes ready."""
    seq, owner = connection.execute(NEXT_SEQ, (at, run)).fetchone()
    return seq, owner


def _next_seq_of_owner(connection: sqlite3.Connection, run: int, epoch: int) -> tuple[int, str | None]:
    """As `fence` and `next_seq`, in one statement."""
    row = connection.execute(NEXT_SEQ_OF_OWNER, (run, epoch)).fetchone()
    if row is None:
        raise stale(run, epoch)
    return row[0], row[1]


def _recorded(connection: sqlite3.Connection, row: tuple[Any, ...], branch: int) -> Recorded:
    node, kind, ask, fingerprint, asked_at, seq, value, error, abandoned, child, line, recorded_at = row
    return Recorded(
        node=node,
        kind=kind,
        ask=ask,
        fingerprint=fingerprint,
        asked_at=asked_at,
        seq=seq,
        outcome=None if seq is None else _outcome(connection, value, error),
        abandoned=bool(abandoned),
        child=child,
        line=line,
        recorded_at=recorded_at,
        branch=branch,
    )


def _outcome(connection: sqlite3.Connection, value: str | bytes | None, error: str | None) -> Outcome:
    return Outcome(loaded(connection, value), Failure.from_json(error) if error else None)
