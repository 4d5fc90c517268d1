"""The queue: which ready runs a worker takes. Each function runs inside a transaction of the writer.

Invariant: claiming reads as many runs as it takes. Those that must wait for a place, or for a rate, stand in lineups (`limits`)
and are not among the ready ones.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass, replace
from typing import Any

from durable_nb.log import limits
from durable_nb.log.branches import begin_attempt
from durable_nb.log.checkpoints import input_of
from durable_nb.log.journal import journal
from durable_nb.log.payloads import loaded
from durable_nb.log.records import Claim
from durable_nb.log.serving import SERVED, Served

READY = f"""
FROM run INDEXED BY run_ready  -- else a task's whole past would be read
WHERE ready_at <= :now AND gate > 0
  AND {SERVED}
  AND (status = 'RUNNING' OR task NOT IN (SELECT task FROM pause))"""  # noqa: S608  a constant

FIND_READY = f"""
SELECT number, gate, status, lineup {READY}
ORDER BY priority DESC, ready_at, turn, number LIMIT :slots"""

IS_WORK = f"SELECT EXISTS (SELECT 1 {READY}) OR EXISTS (SELECT 1 FROM freed)"  # noqa: S608  a constant

CLAIM = """
UPDATE run SET owner = :worker, epoch = epoch + 1, status = 'RUNNING', is_evicted = 0, ready_at = NULL, queue_seen_at = NULL,
               gate = 2, started_at = coalesce(started_at, :now), invocation_count = invocation_count + 1
WHERE number IN (SELECT value FROM json_each(:numbers))
RETURNING number, id, task, kind, version, input, metadata, epoch, branch, retry_count, invocation_count, worked, parent,
          (SELECT parent_run.id FROM run AS parent_run WHERE parent_run.number = run.parent),
          child_key, child_index, home, signature, seeds, cancelled_at, event, filter_payload"""

COUNT_READY = f"SELECT count(*) FROM (SELECT 1 {READY} LIMIT 500)"  # noqa: S608

# Of a time that the clock has not come to, though nothing put it off: a failed attempt's back-off did.
AHEAD = """
SELECT number FROM run INDEXED BY run_ready_at
WHERE ready_at > ? AND (SELECT kind FROM journal WHERE journal.run = run.number ORDER BY seq DESC LIMIT 1) IS NOT 'retried'"""


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a claim gave.

    Attributes:
        has_let_in: runs left their lineups, perhaps for another lane or worker.
        due_at: when a rate limit lets more of them go on, or None.
    """

    claims: list[Claim]
    has_let_in: bool
    due_at: float | None


def claim_ready(connection: sqlite3.Connection, served: Served, *, worker: str, slots: int, at: float) -> Claimed:
    """Take up to `slots` runs that are ready and that this worker serves, most urgent first."""
    values = {"now": at, **served.values()}
    claims: list[Claim] = []
    let_in = limits.settle(connection, at=at)
    while len(claims) < slots:
        ready = connection.execute(FIND_READY, {"slots": slots - len(claims), **values}).fetchall()
        if not ready:
            break
        passed = [
            (number, lineup if gate == 1 else None)
            for number, gate, status, lineup in ready
            if lineup is None or limits.pass_gate(connection, number, gate, status, at=at)
        ]
        queued = {number for number, _, status, _ in ready if status == "QUEUED"}
        numbers = json.dumps([number for number, _ in passed])
        rows = connection.execute(CLAIM, {"worker": worker, "now": at, "numbers": numbers}).fetchall()
        for claim in [as_claim(connection, row) for row in sorted(rows)]:
            claims.append(_entered(connection, claim, worker, is_new=claim.number in queued, at=at))
        lineups = [lineup for _, lineup in passed if lineup is not None]
        let_in += sum(limits.let_in(connection, lineup, at=at) for lineup in lineups)
        let_in += limits.settle(connection, at=at)
        if not lineups and len(passed) == len(ready):
            break
    return Claimed(claims, let_in > 0, limits.next_due(connection))


def _entered(connection: sqlite3.Connection, claim: Claim, worker: str, *, is_new: bool, at: float) -> Claim:
    """Take down that a run was claimed; give the claim, on the branch of its attempt if that is a new one."""
    branch = claim.branch
    if is_new and claim.retry_count and claim.kind == "durable_task":
        branch = begin_attempt(connection, claim.number, branch, at=at)
    if branch == claim.branch:
        journal(connection, claim.number, at, "entered", {"worker": worker})
        return claim
    connection.execute("UPDATE run SET branch = ? WHERE number = ?", (branch, claim.number))
    journal(connection, claim.number, at, "entered", {"worker": worker, "branch": branch})
    return replace(claim, branch=branch)


def is_work(connection: sqlite3.Connection, served: Served, *, at: float) -> bool:
    """Whether a claim would find anything to do: a ready run, or room for one that stands in a lineup."""
    return bool(connection.execute(IS_WORK, {"now": at, **served.values()}).fetchone()[0])


def count_ready(connection: sqlite3.Connection, served: Served, *, at: float) -> int:
    """Give how many runs a claim would find if there were slots for all, up to 500."""
    return int(connection.execute(COUNT_READY, {"now": at, **served.values()}).fetchone()[0])


def find_ahead(connection: sqlite3.Connection, *, at: float) -> list[int]:
    """Give the runs that were ready before the clock was set back."""
    return [number for (number,) in connection.execute(AHEAD, (at,))]


def pull_ahead(connection: sqlite3.Connection, *, at: float) -> None:
    """Have the runs that were ready before the clock was set back ready now."""
    for number in find_ahead(connection, at=at):
        connection.execute("UPDATE run SET ready_at = ? WHERE number = ?", (at, number))
        journal(connection, number, at, "restored", {"ready_at": at})


def as_claim(connection: sqlite3.Connection, row: tuple[Any, ...]) -> Claim:
    """Give a row that `CLAIM` returned, whose columns stand in the order of the record's fields."""
    values = dict(zip(Claim.__dataclass_fields__, row, strict=True))
    input_of_run, signature = input_of(connection, values["number"], values["branch"]) or (values["input"], values["signature"])
    return Claim(**{**values, "input": loaded(connection, input_of_run), "signature": signature})


# ---------------------------------------------------------------- pausing


def pause(connection: sqlite3.Connection, task: str, *, at: float) -> bool:
    """Have no queued run of a task claimed; give whether it was not paused before."""
    return bool(connection.execute("INSERT OR IGNORE INTO pause VALUES (?, ?)", (task, at)).rowcount)


def unpause(connection: sqlite3.Connection, task: str) -> bool:
    """Have the runs of a task claimed again; give whether it was paused."""
    return bool(connection.execute("DELETE FROM pause WHERE task = ?", (task,)).rowcount)


def is_paused(connection: sqlite3.Connection, task: str) -> bool:
    """Whether a task is paused."""
    return connection.execute("SELECT 1 FROM pause WHERE task = ?", (task,)).fetchone() is not None
