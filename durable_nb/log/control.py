"""What a person does to a run: take it up, replay it, reset it, fork it. Each function runs inside a transaction of the writer.

Invariants: everything is checked before anything is written; whoever owned the run is fenced by the change of epoch; outcomes
that others have been given never change.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from typing import Any

from durable_nb.errors import DeclarationError, RunActiveError, UnknownCheckpointError
from durable_nb.log import idempotency, limits, runs
from durable_nb.log.branches import cut_seeds, inherited, last_node, seeds_of, take_up
from durable_nb.log.checkpoints import branch_of, first_branch, input_of, load_history
from durable_nb.log.endings import cancel_children
from durable_nb.log.journal import journal
from durable_nb.log.payloads import loaded, stored
from durable_nb.log.records import ENDED, NEVER, Cut, Effects, NewRun

TOLD = "SELECT seq, error IS NOT NULL, abandoned FROM checkpoint WHERE run = ? AND branch = ? AND node = ?"
WAS_CANCELLED = "SELECT 1 FROM run WHERE number = ? AND cancelled_at IS NOT NULL"
READY_AGAIN = """
UPDATE run SET status = :status, ready_at = :at, branch = :branch, retry_count = retry_count + :retries, is_evicted = :is_evicted,
               epoch = epoch + 1, owner = NULL, blocked_reason = NULL, worked = 0, queued = 0, queue_seen_at = NULL,
               output = NULL, error = NULL, finished_at = NULL, cancelled_at = NULL,
               due_at = CASE WHEN deadline > :at THEN deadline END
WHERE number = :number"""

COPY_CHECKPOINT = """
INSERT INTO checkpoint
SELECT :new, 1, node, kind, ask, fingerprint, line, child, asked_at, seq, recorded_at, outcome, error, abandoned,
       conditions
FROM checkpoint WHERE run = :old AND branch = :branch AND node = :node"""

COPY_WAITS = """
INSERT INTO wait SELECT :new, 1, node, item, group_number, kind, name, due_at, key, scope, expression, schema, floor, since,
                        nullif(matched_at, -1.0), data, event, filter_error, filter_fields, filter_value
FROM wait WHERE run = :old AND branch = :branch AND node = :node"""

COPY_MATCHED = """
INSERT INTO journal (run, at, kind, data)
SELECT run, matched_at, 'matched', json_object('branch', branch, 'node', node, 'item', item, 'event', event)
FROM wait WHERE run = :new AND branch = 1 AND node = :node AND matched_at IS NOT NULL"""

COPY_QUESTIONS = """
INSERT INTO question SELECT :new, 1, node, text, schema, assignees, asked_at, due_at
FROM question WHERE run = :old AND branch = :branch AND node = :node"""

COPY_HISTORY = """
INSERT INTO history SELECT :new, 1, input, signature, mailboxes, seq_before, run_before, created_at
FROM history WHERE run = :old AND branch = :branch"""

COPY_PLACES = "INSERT INTO place SELECT :new, crowd, units, 0 FROM place WHERE run = :old"

COPY_LINEUP = """
UPDATE run SET (lineup, gate) = (SELECT lineup, CASE WHEN lineup IS NULL THEN 2 ELSE 0 END FROM run WHERE number = :old)
WHERE number = :new"""

COPY_FLOOR = "UPDATE run SET event_floor = (SELECT event_floor FROM run WHERE number = :old) WHERE number = :new"

OVERRIDE = """
UPDATE checkpoint SET outcome = ?, error = NULL, seq = ?, recorded_at = ?, child = NULL, abandoned = 0
WHERE run = ? AND branch = 1 AND node = ?"""

REPLACEABLE = frozenset({"event", "wait", "memo", "step", "child", "result", "ask", "select", "map"})


@dataclass(frozen=True)
class _State:
    number: int
    id: str
    task: str
    kind: str
    status: str
    blocked: str | None
    branch: int
    cancelled_at: float | None


def _state(connection: sqlite3.Connection, number: int) -> _State:
    row = connection.execute(
        "SELECT number, id, task, kind, status, blocked_reason, branch, cancelled_at FROM run WHERE number = ?", (number,)
    ).fetchone()
    return _State(*row)


# ---------------------------------------------------------------- blocked and evicted runs


def retake(connection: sqlite3.Connection, number: int, *, at: float) -> bool:
    """Let a blocked run try again, failed checkpoints asked afresh; give whether it was blocked."""
    state = _state(connection, number)
    if state.blocked is None:
        return False
    branch = take_up(connection, number, state.branch, _cut_of(connection, state), reason="retake", at=at)
    connection.execute(
        "UPDATE run SET blocked_reason = NULL, ready_at = ?, branch = ?, epoch = epoch + 1 WHERE number = ?", (at, branch, number)
    )
    journal(connection, number, at, "unblocked", {"branch": branch})
    return True


def restore(connection: sqlite3.Connection, number: int, *, at: float) -> bool:
    """Have an evicted run taken into memory; give whether it was evicted."""
    done = connection.execute(
        "UPDATE run SET ready_at = coalesce(ready_at, ?) "
        "WHERE number = ? AND is_evicted AND owner IS NULL AND blocked_reason IS NULL AND status = 'RUNNING' RETURNING ready_at",
        (at, number),
    ).fetchone()
    if done:
        journal(connection, number, at, "restored", {"ready_at": done[0]})
    return bool(done)


# ---------------------------------------------------------------- replay


def replay(connection: sqlite3.Connection, number: int, *, at: float) -> None:
    """Queue a run that has ended, or is blocked, once more.

    A completed one keeps its branch and everything on it. A failed one asks the checkpoints that failed it afresh, as a retry
    does. A cancelled one goes on from where its cancel was delivered, without its clean-up and the children cancelled with it.

    Raises:
        RunActiveError: it has not ended. IdempotencyCollisionError: another run has its idempotency key by now.
    """
    state = _state(connection, number)
    if state.status not in ENDED and state.blocked is None:
        raise RunActiveError(
            f"Run {state.id} of '{state.task}' is {state.status}, so it cannot be replayed: cancel it first, or reset it."
        )
    if state.status in ENDED:
        idempotency.take_again(connection, number, at=at)
    branch, cut = state.branch, Cut(None)
    if state.kind == "task" and state.status == "CANCELLED":  # the cancel belongs to the old one
        branch = take_up(connection, number, branch, Cut(1), reason="replay", at=at)
    elif state.status != "COMPLETED":
        cut = _cut_of_cancelled(connection, state) if state.status == "CANCELLED" else _cut_of(connection, state)
        branch = take_up(connection, number, branch, cut, reason="replay", at=at)
    values = {"status": "QUEUED", "at": at, "branch": branch, "retries": 1, "is_evicted": 0, "number": number}
    connection.execute(READY_AGAIN, values)
    facts = {"branch": branch, "was": state.status, "undone_from": cut.undone_from}
    journal(connection, number, at, "replayed", facts)


def _cut_of(connection: sqlite3.Connection, state: _State) -> Cut:
    """Give what was taken down when the run failed or was blocked."""
    (data,) = connection.execute(
        "SELECT data FROM journal WHERE run = ? AND kind IN ('finished', 'blocked') ORDER BY seq DESC LIMIT 1", (state.number,)
    ).fetchone()
    cut = json.loads(data).get("cut")
    return Cut(*cut) if cut else Cut(None)


def _cut_of_cancelled(connection: sqlite3.Connection, state: _State) -> Cut:
    """Cut where the cancel was delivered; drop the children that were cancelled with the run."""
    cancel = _cancel_of(connection, state.number, state.branch)
    after = None if cancel is None else cancel[1]
    limit = 1 + (last_node(connection, state.number, state.branch) if after is None else after)
    return Cut(limit, _cancelled_with(connection, state.number, state.branch, limit))


def _cancel_of(connection: sqlite3.Connection, number: int, branch: int) -> tuple[int, int | None] | None:
    """Give the place of a branch's cancel, and the last node that was asked when it was delivered."""
    row = connection.execute("SELECT seq, after FROM cancel WHERE run = ? AND branch = ?", (number, branch)).fetchone()
    return (row[0], row[1]) if row else None


def _cancelled_with(connection: sqlite3.Connection, number: int, branch: int, limit: int) -> list[int]:
    """Give the nodes below a limit whose children were cancelled with the run: on another branch they are asked afresh."""
    cancel = _cancel_of(connection, number, branch)
    nodes: list[int] = []
    if cancel is None:
        return nodes
    for (owner, node), child in inherited(connection, number, branch):
        if child is None or node >= limit:
            continue
        told, abandoned = connection.execute(
            "SELECT seq, abandoned FROM checkpoint WHERE run = ? AND branch = ? AND node = ?", (number, owner, node)
        ).fetchone()
        (is_cancelled,) = connection.execute("SELECT cancelled_at IS NOT NULL FROM run WHERE number = ?", (child,)).fetchone()
        if is_cancelled and (told is None or told > cancel[0]) and not 0 < abandoned <= cancel[0]:
            nodes.append(node)
    return nodes


# ---------------------------------------------------------------- reset


def _lost_after(connection: sqlite3.Connection, number: int, branch: int, limit: int) -> list[int]:
    """Give the nodes below a limit whose children were given up and cancelled for what nodes from there on brought."""
    below, undone_from = list[tuple[int, int]](), NEVER
    for (owner, node), child in inherited(connection, number, branch):
        seq, failed, abandoned = connection.execute(TOLD, (number, owner, node)).fetchone()
        if node >= limit:
            undone_from = undone_from if seq is None else min(undone_from, seq)
        elif (
            child is not None and abandoned and (seq is None or failed) and connection.execute(WAS_CANCELLED, (child,)).fetchone()
        ):
            below.append((node, abandoned))
    return [node for node, abandoned in below if abandoned > undone_from]


def reset(connection: sqlite3.Connection, number: int, node: int, *, branch: int | None, at: float) -> tuple[int, Effects]:
    """Have a durable run ask a node, and everything after it, afresh on a new branch; give the branch.

    Unfinished children that the new branch does not inherit are cancelled. A cancel that was asked for on the old one is undone.

    Raises:
        UnknownCheckpointError: there is no such branch or node. IdempotencyCollisionError: the run has ended, and another one has
            its idempotency key by now.
    """
    state = _state(connection, number)
    parent = _check_place(connection, state, node, branch, limit=node, verb="reset")
    if state.status in ENDED:
        idempotency.take_again(connection, number, at=at)
    effects = Effects(left=[number])
    dropped = [*_cancelled_with(connection, number, parent, node), *_lost_after(connection, number, parent, node)]
    new = take_up(connection, number, parent, Cut(node, dropped), reason="reset", at=at)
    kept = {child for _, child in inherited(connection, number, new) if child is not None}
    cancel_children(connection, number, kept, reason=f"its parent {state.id} was reset", at=at, effects=effects)
    is_mid_way = state.status == "RUNNING"
    connection.execute(
        READY_AGAIN,
        {
            "status": "RUNNING" if is_mid_way else "QUEUED",
            "at": at,
            "branch": new,
            "retries": 0,
            "is_evicted": int(is_mid_way),
            "number": number,
        },
    )
    journal(connection, number, at, "reset", {"branch": new, "parent": parent, "node": node, "was": state.status})
    return new, effects


def _check_place(connection: sqlite3.Connection, state: _State, node: int, branch: int | None, *, limit: int, verb: str) -> int:
    """Give the branch to cut, from whose nodes those below `limit` will be kept.

    Raises:
        UnknownCheckpointError: it has no such node, or one that only a cancel has brought about.
    """
    if state.kind != "durable_task":
        raise UnknownCheckpointError(
            f"Run {state.id} of '{state.task}' is a regular task's, which has no checkpoints: it can be replayed, not {verb}."
        )
    chosen = state.branch if branch is None else branch
    exists = (
        chosen == 1 or connection.execute("SELECT 1 FROM branch WHERE run = ? AND branch = ?", (state.number, chosen)).fetchone()
    )
    if not exists:
        (newest,) = connection.execute("SELECT coalesce(max(branch), 1) FROM branch WHERE run = ?", (state.number,)).fetchone()
        raise UnknownCheckpointError(f"Run {state.id} of '{state.task}' has no branch {chosen}; its newest is {newest}.")
    owner = branch_of(connection, state.number, chosen, node)
    if owner is None:
        last = last_node(connection, state.number, chosen)
        has = f"its nodes go from 1 to {last}" if last else "it has asked nothing yet"
        raise UnknownCheckpointError(f"Run {state.id} of '{state.task}' has no node {node} on branch {chosen}: {has}.")
    cancel = _cancel_of(connection, state.number, owner)
    if cancel is not None and cancel[1] is not None and limit > cancel[1] + 1:
        raise UnknownCheckpointError(
            f"Node {node} of run {state.id} of '{state.task}' belongs to the clean-up after its cancel, which came after node "
            f"{cancel[1]}: only what was asked before can be kept."
        )
    return chosen


# ---------------------------------------------------------------- fork


def fork(
    connection: sqlite3.Connection,
    number: int,
    node: int,
    new: NewRun,
    *,
    override: str | None,
    at: float,
    branch: int | None = None,
) -> int:
    """Make a new run that shares what a run has asked below a node; give its number. The original stays untouched.

    Args:
        new: the run to be made; its input, seeds and origin are filled in by `prepare_fork`.
        override: JSON text that replaces the outcome of the node, which is shared then too.
        branch: whose node it is; the run's present one by default.
    """
    state = _state(connection, number)
    branch = state.branch if branch is None else branch
    fork_number = runs.create_run(connection, new, at=at, worker=None)
    limit = node + (override is not None)
    (last_seq,) = connection.execute("SELECT last_seq FROM run WHERE number = ?", (number,)).fetchone()
    origin = {"new": fork_number, "old": number, "branch": first_branch(connection, number, branch)}
    connection.execute(COPY_FLOOR, origin)  # its mailboxes begin where those of the original did
    connection.execute(COPY_HISTORY, origin)
    connection.execute(COPY_LINEUP, origin)
    connection.execute(COPY_PLACES, origin)
    limits.stand(connection, fork_number)
    dropped = _cancelled_with(connection, number, branch, limit)
    for checkpoint in load_history(connection, number, branch):
        if checkpoint.node >= limit:
            break
        if checkpoint.node in dropped and checkpoint.node != node:
            continue
        place = {"new": fork_number, "old": number, "branch": checkpoint.branch, "node": checkpoint.node}
        if checkpoint.node == node:
            connection.execute(COPY_CHECKPOINT, place)
            seq = checkpoint.seq
            if seq is None:
                seq = last_seq = last_seq + 1
            connection.execute(OVERRIDE, (stored(connection, override), seq, at, fork_number, node))
            continue
        waits = connection.execute(
            "SELECT 1 FROM wait WHERE run = :old AND branch = :branch AND node = :node LIMIT 1", place
        ).fetchone()
        if checkpoint.seq is not None or checkpoint.child is not None or waits:
            connection.execute(COPY_CHECKPOINT, place)
            connection.execute(COPY_WAITS, place)
            connection.execute(COPY_MATCHED, place)
            connection.execute(COPY_QUESTIONS, place)
    connection.execute("UPDATE run SET last_seq = ? WHERE number = ?", (last_seq, fork_number))
    journal(connection, fork_number, at, "forked", {"from": state.id, "branch": branch, "node": node, "last_seq": last_seq})
    return fork_number


def prepare_fork(
    connection: sqlite3.Connection, number: int, node: int, new_id: str, *, is_overridden: bool, branch: int | None = None
) -> NewRun:
    """Give the record of a fork of a run at a node, which is not signed yet.

    Raises:
        UnknownCheckpointError: there is no such node. DeclarationError: its outcome cannot be replaced.
    """
    state = _state(connection, number)
    cut = node + is_overridden
    place = _check_place(connection, state, node, branch, limit=cut, verb="forked")
    owner = branch_of(connection, number, place, node)
    (kind,) = connection.execute(
        "SELECT kind FROM checkpoint WHERE run = ? AND branch = ? AND node = ?", (number, owner, node)
    ).fetchone()
    if is_overridden and kind not in REPLACEABLE:
        raise DeclarationError(
            f"Node {node} of run {state.id} is a {kind}, whose outcome is the engine's own: fork it without an override."
        )
    row: tuple[Any, ...] = connection.execute(
        "SELECT version, input, metadata, priority, home, cancel_grace, event, filter_payload FROM run WHERE number = ?",
        (number,),
    ).fetchone()
    onward = input_of(connection, number, place)
    seeds = [*cut_seeds(seeds_of(connection, number, place), cut), (cut, f"{new_id}/1")]
    return NewRun(
        id=new_id,
        task=state.task,
        kind=state.kind,
        version=row[0],
        input=loaded(connection, onward[0] if onward else row[1]) or "null",
        metadata=row[2],
        priority=row[3],
        home=row[4],
        cancel_grace=row[5],
        event=row[6],
        filter_payload=row[7],
        forked_from=number,
        seeds=json.dumps(seeds),
    )
