"""How runs end: finish, cancel, deadline. Each function runs inside a transaction of the writer.

Invariants: a cancel is a fact with a place in the run's order of delivery, one for a branch. Once it stands the run ends as
CANCELLED, whatever its function does, and at the latest when its grace is over. What a cancelled run has spawned and has not
ended is cancelled in the same transaction, so no crash comes between.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from typing import Any

from durable_nb.errors import StaleEpochError
from durable_nb.log.branches import CLOSED
from durable_nb.log.checkpoints import complete_waiting_on, next_seq
from durable_nb.log.journal import journal
from durable_nb.log.payloads import stored
from durable_nb.log.records import CANCEL, ENDED, Claim, Completion, Cut, Effects, Failure, Outcome
from durable_nb.log.runs import fence

END = """
UPDATE run SET status = ?, output = ?, error = ?, finished_at = ?, worked = ?, due_at = NULL, blocked_reason = NULL,
               owner = NULL, ready_at = NULL, is_evicted = 0, epoch = epoch + 1
WHERE number = ? RETURNING lineup IS NOT NULL"""

OPEN_CHILDREN = """
SELECT number FROM run WHERE parent = ? AND status IN ('QUEUED', 'RUNNING') AND cancel_with_parent ORDER BY number"""

IS_OPEN_CHILD = """
SELECT 1 FROM run WHERE number = ? AND parent = ? AND status IN ('QUEUED', 'RUNNING') AND cancel_with_parent"""

GIVE_UP = "UPDATE checkpoint SET abandoned = 1 WHERE run = ? AND branch = ? AND node = ?"

DUE_RUNS = "SELECT number, cancelled_at, deadline FROM run WHERE due_at <= ? ORDER BY due_at LIMIT ?"

GRACE = "UPDATE run SET cancelled_at = ?, due_at = ? + cancel_grace WHERE number = ? RETURNING due_at"


def finish(
    connection: sqlite3.Connection,
    number: int,
    epoch: int,
    *,
    status: str,
    outcome: Outcome,
    worked: float,
    at: float,
    cut: Cut | None = None,
) -> Effects:
    """End a run, and satisfy every checkpoint that waits for it. One whose cancel was asked for is CANCELLED.

    Args:
        cut: of a failed run, what a replay of it asks afresh.

    Raises:
        StaleEpochError: the run is not owned by this worker any more.
    """
    row = connection.execute("SELECT epoch, status, cancelled_at FROM run WHERE number = ?", (number,)).fetchone()
    if row is None or row[0] != epoch or row[1] in ENDED:
        raise StaleEpochError(f"Run number {number} is not owned by this worker any more (epoch {epoch}): its end was refused.")
    effects = Effects()
    if row[2] is not None:
        _end_cancelled(connection, number, worked=worked, at=at, effects=effects)
        _cancel_below(connection, number, at=at, effects=effects)  # what its clean-up has spawned
    else:
        _end(connection, number, status, outcome, worked=worked, at=at, cut=cut, effects=effects)
    return effects


def is_cancelled(connection: sqlite3.Connection, number: int) -> bool:
    """Whether a run's cancel was asked for, so that it can only end."""
    row = connection.execute("SELECT cancelled_at FROM run WHERE number = ?", (number,)).fetchone()
    return bool(row and row[0] is not None)


def ended_under(connection: sqlite3.Connection, number: int, epoch: int) -> str | None:
    """Give the status of a run that was ended while it was owned under this epoch, or None."""
    row = connection.execute("SELECT status FROM run WHERE number = ? AND epoch = ?", (number, epoch + 1)).fetchone()
    return str(row[0]) if row and row[0] in ENDED else None


def cancel(connection: sqlite3.Connection, number: int, *, reason: str, at: float) -> tuple[bool, Effects]:
    """Ask for a run's cancel, and for that of everything below it; give whether it will be CANCELLED, or was ended before.

    A run that nobody has entered, or that is blocked, ends at once; one that waits is entered to be told.
    """
    effects = Effects()
    is_done = _ask(connection, number, reason, at, effects)
    if is_done:
        _cancel_below(connection, number, at=at, effects=effects)
    return is_done, effects


def _cancel_below(connection: sqlite3.Connection, number: int, *, at: float, effects: Effects) -> None:
    todo = deque([number])
    while todo:
        parent = todo.popleft()
        children = connection.execute(OPEN_CHILDREN, (parent,)).fetchall()
        if not children:
            continue
        (parent_id,) = connection.execute("SELECT id FROM run WHERE number = ?", (parent,)).fetchone()
        for (child,) in children:
            _ask(connection, child, f"its parent {parent_id} was", at, effects)
            todo.append(child)


def cancel_children(
    connection: sqlite3.Connection, number: int, kept: set[int], *, reason: str, at: float, effects: Effects
) -> None:
    """Cancel the unfinished children of a run but for those kept, with everything below them."""
    for (child,) in connection.execute(OPEN_CHILDREN, (number,)).fetchall():
        if child not in kept and _ask(connection, child, reason, at, effects):
            _cancel_below(connection, child, at=at, effects=effects)


def cancel_child(connection: sqlite3.Connection, number: int, child: int, *, reason: str, at: float) -> Effects:
    """Cancel a child of a run, with everything below it, unless it was spawned to outlive its parent."""
    effects = Effects()
    if connection.execute(IS_OPEN_CHILD, (child, number)).fetchone() and _ask(connection, child, reason, at, effects):
        _cancel_below(connection, child, at=at, effects=effects)
    return effects


def _ask(connection: sqlite3.Connection, number: int, reason: str, at: float, effects: Effects) -> bool:
    """Write the fact of a cancel, unless it stands already; give whether the run had not ended."""
    row = connection.execute(
        "SELECT status, kind, owner, blocked_reason, branch, cancelled_at FROM run WHERE number = ?", (number,)
    ).fetchone()
    status, kind, owner, blocked, branch, cancelled_at = row
    if status in ENDED or cancelled_at is not None:
        return status not in ENDED
    seq, _ = next_seq(connection, number, at)
    (due_at,) = connection.execute(GRACE, (at, at, number)).fetchone()
    connection.execute("INSERT INTO cancel VALUES (?, ?, ?, ?, ?, NULL)", (number, branch, seq, at, reason))
    journal(connection, number, at, "cancelled", {"reason": reason, "branch": branch, "seq": seq, "due_at": due_at})
    if status == "QUEUED" or blocked is not None or (owner is None and kind == "task"):
        _end_cancelled(connection, number, worked=None, at=at, effects=effects)
    else:
        effects.completions.append(Completion(number, seq, CANCEL, branch, Outcome(), owner))
    return True


def _end_cancelled(connection: sqlite3.Connection, number: int, *, worked: float | None, at: float, effects: Effects) -> None:
    run_id, task, reason = connection.execute(
        "SELECT run.id, run.task, cancel.reason FROM run JOIN cancel ON cancel.run = run.number AND cancel.branch = run.branch "
        "WHERE run.number = ?",
        (number,),
    ).fetchone()
    said = f"Run {run_id} of '{task}' was cancelled" + (f": {reason}." if reason else ".")
    outcome = Outcome(failure=Failure("RunCancelledError", said, run_id=run_id, is_cancel=True))
    _end(connection, number, "CANCELLED", outcome, worked=worked, at=at, cut=None, effects=effects)


def _end(
    connection: sqlite3.Connection,
    number: int,
    status: str,
    outcome: Outcome,
    *,
    worked: float | None,
    at: float,
    cut: Cut | None,
    effects: Effects,
) -> None:
    error = outcome.failure.to_json() if outcome.failure else None
    if worked is None:
        (worked,) = connection.execute("SELECT worked FROM run WHERE number = ?", (number,)).fetchone()
    (had_place,) = connection.execute(END, (status, stored(connection, outcome.value), error, at, worked, number)).fetchone()
    effects.has_room |= bool(had_place)
    if status == "COMPLETED":
        left = connection.execute("DELETE FROM wait WHERE run = ? RETURNING branch, node", (number,)).fetchall()
        connection.executemany(GIVE_UP, [(number, *place) for place in set(left)])
    else:  # a replay of it opens again what it still waits for
        connection.execute("UPDATE wait SET matched_at = ? WHERE run = ? AND matched_at IS NULL", (CLOSED, number))
    facts: dict[str, Any] = {"status": status, "worked": worked}
    if outcome.failure is not None:
        facts |= {"type": outcome.failure.type, "message": outcome.failure.message, "cut": cut}
    journal(connection, number, at, "finished", facts)
    effects.ended.append((number, status, outcome))
    effects.completions += complete_waiting_on(connection, number, outcome, at=at)


def delivered(connection: sqlite3.Connection, claim: Claim, *, after: int) -> list[Completion]:
    """Take down that a run was told of its cancel after it had asked the node `after`, so that a replay tells it there."""
    fence(connection, claim.number, claim.epoch)
    connection.execute(
        "UPDATE cancel SET after = ? WHERE run = ? AND branch = ? AND after IS NULL", (after, claim.number, claim.branch)
    )
    return []


def end_due(connection: sqlite3.Connection, *, at: float, limit: int) -> Effects:
    """Cancel runs whose deadline has passed, and end those whose grace is over, wherever they are."""
    effects = Effects()
    for number, cancelled_at, deadline in connection.execute(DUE_RUNS, (at, limit)).fetchall():
        if cancelled_at is not None:
            if connection.execute("SELECT due_at FROM run WHERE number = ?", (number,)).fetchone()[0] is not None:
                _end_cancelled(connection, number, worked=None, at=at, effects=effects)
                _cancel_below(connection, number, at=at, effects=effects)
        else:
            moment = connection.execute("SELECT strftime('%Y-%m-%d %H:%M:%S', ?, 'unixepoch')", (deadline,)).fetchone()[0]
            _, more = cancel(connection, number, reason=f"its deadline, {moment} UTC, has passed", at=at)
            effects.completions += more.completions
            effects.ended += more.ended
    return effects
