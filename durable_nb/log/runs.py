"""Transactions on runs: make, claim, retry, give back. Each function runs inside a transaction of the writer.

Invariant: whoever writes for a run shows its epoch; every change of owner raises it, so a former owner can write nothing
(`fence`).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence

from durable_nb.errors import DeclarationError, StaleEpochError, UnknownRunError
from durable_nb.log.journal import journal
from durable_nb.log.payloads import loaded, stored
from durable_nb.log.records import ENDED, Claim, Cut, Failure, NewRun, Outcome
from durable_nb.log.serving import SERVED, Served

INSERT_RUN = """
INSERT INTO run (id, task, kind, version, input, metadata, priority, parent, child_key, child_index, key, home, signature,
                 deadline, cancel_grace, cancel_with_parent, forked_from, seeds, due_at, event, filter_payload,
                 idempotency_key, lineup, gate, created_at, ready_at, status, owner, epoch, started_at, invocation_count,
                 event_floor)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?,
        (SELECT coalesce(max(seq), 0) FROM event))"""

ENDED_AMONG = """
SELECT number FROM run
WHERE number IN (SELECT value FROM json_each(?)) AND status IN ('COMPLETED', 'FAILED', 'CANCELLED')"""

RETRY = """
UPDATE run SET status = 'QUEUED', ready_at = ?, branch = ?, retry_count = retry_count + 1, worked = 0, queued = 0,
               owner = NULL, epoch = epoch + 1
WHERE number = ? AND epoch = ?"""

GIVE_BACK = """
UPDATE run SET blocked_reason = :blocked, worked = :worked, is_evicted = (kind = 'durable_task'), owner = NULL, epoch = epoch + 1
WHERE number = :number AND epoch = :epoch"""

STILL_QUEUED = f"""
SELECT number, epoch, queued, max(ready_at, coalesce(queue_seen_at, 0))
FROM run INDEXED BY run_ready_at  -- else a task's whole past would be read
WHERE status = 'QUEUED' AND ready_at <= :now AND task = :task AND {SERVED}"""  # noqa: S608  a constant

RELEASE_ALL = """
UPDATE run SET ready_at = ?, is_evicted = (kind = 'durable_task'), owner = NULL, epoch = epoch + 1
WHERE owner = ? RETURNING number, worked"""


def find_key(connection: sqlite3.Connection, run: NewRun) -> int | None:
    """Give the run that has the key of a new one already.

    Raises:
        DeclarationError: it is a run of another task.
    """
    if run.key is None:
        return None
    row = connection.execute("SELECT number, task FROM run WHERE key = ?", (run.key,)).fetchone()
    if row and row[1] != run.task:
        raise DeclarationError(f"The key '{run.key}' names a run of task '{row[1]}' in this log: take another key.")
    return int(row[0]) if row else None


def create_run(
    connection: sqlite3.Connection, run: NewRun, *, at: float, worker: str | None, lineup: str | None = None, gate: int = 2
) -> int:
    """Write a new run: queued, or, where `worker` holds a slot for it, owned by that worker at once (which saves a commit).

    Args:
        lineup, gate: where it stands (see `limits`).

    Returns:
        Its number.
    """
    claimed = worker is not None
    cursor = connection.execute(
        INSERT_RUN,
        (
            run.id,
            run.task,
            run.kind,
            run.version,
            stored(connection, run.input),
            run.metadata,
            run.priority,
            run.parent,
            run.child_key,
            run.child_index,
            run.key,
            run.home,
            run.signature,
            run.deadline,
            run.cancel_grace,
            int(run.cancel_with_parent),
            run.forked_from,
            run.seeds,
            run.deadline,
            run.event,
            run.filter_payload,
            run.idempotency.key if run.idempotency else None,
            lineup,
            gate,
            at,
            None if claimed else at,
            "RUNNING" if claimed else "QUEUED",
            worker,
            int(claimed),
            at if claimed else None,
            int(claimed),
        ),
    )
    number = cursor.lastrowid
    assert number is not None  # noqa: S101  an INSERT of one row has it
    if claimed:
        journal(connection, number, at, "entered", {"worker": worker})
    return number


def claim_of(run: NewRun, number: int, *, parent_id: str | None) -> Claim:
    """Give the claim of a run that `create_run` made and claimed."""
    return Claim(
        number=number,
        id=run.id,
        task=run.task,
        kind=run.kind,
        version=run.version,
        input=run.input,
        metadata=run.metadata,
        epoch=1,
        branch=1,
        retry_count=0,
        invocation_count=1,
        worked=0.0,
        parent=run.parent,
        parent_id=parent_id,
        child_key=run.child_key,
        child_index=run.child_index,
        home=run.home,
        signature=run.signature,
        seeds=run.seeds,
        cancelled_at=None,
        event=run.event,
        filter_payload=run.filter_payload,
    )


def id_of(connection: sqlite3.Connection, number: int) -> str:
    """Give a run's id by its number."""
    return str(connection.execute("SELECT id FROM run WHERE number = ?", (number,)).fetchone()[0])


def fence(connection: sqlite3.Connection, number: int, epoch: int) -> None:
    """Refuse a write whose run another worker owns by now.

    Raises:
        StaleEpochError: the epoch is not the run's.
    """
    row = connection.execute("SELECT epoch FROM run WHERE number = ?", (number,)).fetchone()
    if row is None or row[0] != epoch:
        raise stale(number, epoch)


def stale(number: int, epoch: int) -> StaleEpochError:
    """Make the error of a write that is refused."""
    return StaleEpochError(f"Run number {number} is not owned by this worker any more (epoch {epoch}): its write was refused.")


def keep_worked(connection: sqlite3.Connection, number: int, seconds: float) -> None:
    """Take down how long the attempt of an owned run has worked so far."""
    connection.execute("UPDATE run SET worked = ? WHERE number = ?", (seconds, number))


def retry(
    connection: sqlite3.Connection,
    number: int,
    epoch: int,
    *,
    ready_at: float,
    branch: int,
    undone_from: int,
    failure: Failure,
    at: float,
) -> None:
    """Queue the next attempt; its queue and working times begin anew."""
    if not connection.execute(RETRY, (ready_at, branch, number, epoch)).rowcount:
        raise StaleEpochError(f"Run number {number} is not owned by this worker any more (epoch {epoch}): its retry was refused.")
    journal(
        connection,
        number,
        at,
        "retried",
        {
            "ready_at": ready_at,
            "branch": branch,
            "undone_from": undone_from,
            "type": failure.type,
            "message": failure.message,
        },
    )


def evict(connection: sqlite3.Connection, number: int, epoch: int, *, delivered: int, worked: float, at: float) -> bool:
    """Give back a waiting run without a wish for a slot; refuse (False) if a completion has arrived that it was not given yet."""
    fence(connection, number, epoch)
    if connection.execute("SELECT last_seq FROM run WHERE number = ?", (number,)).fetchone()[0] > delivered:
        return False
    _give_back(connection, number, epoch, blocked=None, worked=worked)
    journal(connection, number, at, "evicted", {"worked": worked, "seq": delivered})
    return True


def park(
    connection: sqlite3.Connection, number: int, epoch: int, *, reason: str, worked: float, at: float, cut: Cut | None = None
) -> None:
    """Block a run until a person acts; it is not failed and keeps everything.

    Args:
        cut: what is asked afresh when it is taken up again, where checkpoints failed.
    """
    fence(connection, number, epoch)
    _give_back(connection, number, epoch, blocked=reason, worked=worked)
    journal(connection, number, at, "blocked", {"reason": reason, "worked": worked, "cut": cut})


def release_all(
    connection: sqlite3.Connection, worker: str, *, reason: str, at: float, worked: Mapping[int, float] | None = None
) -> int:
    """Make every run of a worker ready for whoever serves it, and forget the worker; give their number.

    Args:
        worked: seconds that the attempts of some runs have worked so far.
    """
    for number, seconds in (worked or {}).items():
        connection.execute("UPDATE run SET worked = ? WHERE number = ? AND owner = ?", (seconds, number, worker))
    rows = connection.execute(RELEASE_ALL, (at, worker)).fetchall()
    for number, seconds in rows:
        journal(connection, number, at, "released", {"worker": worker, "reason": reason, "worked": seconds})
    connection.execute("DELETE FROM worker WHERE id = ?", (worker,))
    return len(rows)


def release(connection: sqlite3.Connection, number: int, epoch: int, *, reason: str, worked: float, at: float) -> None:
    """Give back a run that wants a slot again at once."""
    fence(connection, number, epoch)
    (worker,) = connection.execute("SELECT owner FROM run WHERE number = ?", (number,)).fetchone()
    _give_back(connection, number, epoch, blocked=None, worked=worked)
    connection.execute("UPDATE run SET ready_at = ? WHERE number = ?", (at, number))
    journal(connection, number, at, "released", {"worker": worker, "reason": reason, "worked": worked})


def _give_back(connection: sqlite3.Connection, number: int, epoch: int, *, blocked: str | None, worked: float) -> None:
    connection.execute(GIVE_BACK, {"number": number, "epoch": epoch, "blocked": blocked, "worked": worked})


def age_queue(
    connection: sqlite3.Connection, served: Served, limits: dict[str, float], *, since: float, at: float
) -> list[tuple[int, int, str]]:
    """Count queueing time for tasks with a schedule time-out; give (number, epoch, task) of the runs whose time is over.

    Args:
        limits: seconds by task.
        since: when this engine looked before; what lies earlier was counted by others, or no able engine lived.
    """
    over = []
    paused = {task for (task,) in connection.execute("SELECT task FROM pause")}
    for task, limit in limits.items():
        if task in paused:
            continue
        rows = connection.execute(STILL_QUEUED, {"now": at, "task": task, **served.values()}).fetchall()
        for number, epoch, queued, seen_at in rows:
            total = queued + max(0.0, at - max(since, seen_at))
            connection.execute("UPDATE run SET queued = ?, queue_seen_at = ? WHERE number = ?", (total, at, number))
            if total >= limit:
                over.append((number, epoch, task))
    return over


def result_of(connection: sqlite3.Connection, number: int) -> tuple[str, Outcome]:
    """Give status and outcome of a run."""
    row = connection.execute("SELECT status, output, error FROM run WHERE number = ?", (number,)).fetchone()
    if row is None:
        raise UnknownRunError(f"No run has the number {number}.")
    status, output, error = row
    if status not in ENDED:
        return status, Outcome()
    return status, Outcome(loaded(connection, output), Failure.from_json(error) if error else None)


def ended_among(connection: sqlite3.Connection, numbers: Sequence[int]) -> list[tuple[int, str, Outcome]]:
    """Give number, status and outcome of those runs that have ended."""
    rows = connection.execute(ENDED_AMONG, (json.dumps(list(numbers)),)).fetchall()
    return [(number, *result_of(connection, number)) for (number,) in rows]
