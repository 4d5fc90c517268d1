"""What a run has been through, for those who step through it: checkpoints by branch, versions, branches and forks.

Everything is read in the caller's snapshot; nothing is written. Times are UTC seconds.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from durable_nb.errors import UnknownCheckpointError
from durable_nb.log.branches import seeds_of
from durable_nb.log.checkpoints import NO_PARENT, branch_of, input_of, load_history, seq_before
from durable_nb.log.payloads import loaded
from durable_nb.log.queue import CLAIM, as_claim
from durable_nb.log.records import CANCEL, Claim, Completion, Failure, Outcome, Recorded, RunView

CLAIM_COLUMNS = CLAIM.rpartition("RETURNING ")[2]
READ_CLAIM = f"SELECT {CLAIM_COLUMNS} FROM run WHERE number = ?"  # noqa: S608  a constant

MOVES = "SELECT at, data FROM journal WHERE run = ? AND kind = 'moved' ORDER BY seq"

CANCELLED = "SELECT seq, after FROM cancel WHERE run = ? AND branch = ?"

BRANCHES = "SELECT branch, parent, cut, reason, created_at FROM branch WHERE run = ? ORDER BY branch"

FORKS = "SELECT number, id, task, status, created_at FROM run INDEXED BY run_forked WHERE forked_from = ? ORDER BY number LIMIT ?"

FORKED_AT = "SELECT data FROM journal WHERE run = ? AND kind = 'forked' ORDER BY seq LIMIT 1"

ORIGIN = """
SELECT origin.number, origin.id, origin.task, origin.status, origin.created_at
FROM run JOIN run AS origin ON origin.number = run.forked_from WHERE run.number = ?"""

VALUE = """
SELECT kind, ask, line, asked_at, recorded_at, outcome, error, abandoned,
       coalesce((SELECT schema FROM question WHERE question.run = checkpoint.run AND question.branch = checkpoint.branch
                 AND question.node = checkpoint.node), CASE kind WHEN 'event' THEN conditions ->> '$[0][8]' END),
       (SELECT task FROM run WHERE number = child), (SELECT id FROM run WHERE number = child)
FROM checkpoint WHERE run = ? AND branch = ? AND node = ?"""

MOST_FORKS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """A history as the log has it.

    Attributes:
        claim: the run as it is entered on this branch, owned by nobody. now: as it would be entered now, with its signature.
        recorded: the checkpoints of the branch's lineage, by node.
        since: the last sequence number of earlier histories.
        versions: of the code, each with the time from which on the run had it.
        is_current: whether the run is on this branch now.
    """

    claim: Claim
    now: Claim
    recorded: Sequence[Recorded]
    seeds: Sequence[tuple[int, str]]
    since: int
    cancel: Completion | None
    versions: Sequence[tuple[float, str | None]]
    is_current: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchView:
    """A branch of a run.

    Attributes:
        parent: the branch that it inherits from; 0: it inherits nothing.
        cut: the first node that it does not inherit.
        reason: ``"retry"``, ``"reset"``, ``"replay"``, ``"continued as new"``, …; ``""`` for the first.
    """

    branch: int
    parent: int
    cut: int
    reason: str
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkView:
    """A run that was forked from another, or the one that it was forked from.

    Attributes:
        node: where it was cut; branch: of the origin, at that time.
    """

    number: int
    id: str
    task: str
    status: str
    created_at: float
    branch: int
    node: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """The branches of a run, the runs that were forked from it (the first of them), and the one that it was forked from."""

    branches: tuple[BranchView, ...]
    forks: tuple[ForkView, ...]
    origin: ForkView | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A checkpoint with its outcome.

    Attributes:
        value: JSON text; None where there is none. error: of a failed one.
        schema: JSON Schema of the value, where the log knows it. child, child_id: the task and the id of the run it waits for.
    """

    branch: int
    node: int
    kind: str
    ask: str
    line: int | None
    asked_at: float
    recorded_at: float | None
    value: str | None
    error: Failure | None
    is_abandoned: bool
    schema: str | None
    child: str | None
    child_id: str | None


def past_of(connection: sqlite3.Connection, run: RunView, branch: int | None = None) -> Past:
    """Give a run's history on a branch, the present one by default.

    Raises:
        UnknownCheckpointError: there is no such branch.
    """
    chosen = run.branch if branch is None else branch
    if chosen not in {view.branch for view in branches_of(connection, run)}:
        raise UnknownCheckpointError(f"Run {run.id} of '{run.task}' has no branch {chosen}.")
    place = (run.number, chosen)
    claim = as_claim(connection, connection.execute(READ_CLAIM, (run.number,)).fetchone())
    onward = input_of(connection, *place)
    given = (onward or connection.execute("SELECT input, signature FROM run WHERE number = ?", (run.number,)).fetchone())[0]
    cancelled = connection.execute(CANCELLED, place).fetchone()
    return Past(
        claim=replace(claim, branch=chosen, input=loaded(connection, given) or "null"),
        now=claim,
        recorded=load_history(connection, *place),
        seeds=seeds_of(connection, *place),
        since=seq_before(connection, *place),
        cancel=Completion(run.number, cancelled[0], CANCEL, chosen, Outcome(), after=cancelled[1]) if cancelled else None,
        versions=_versions(connection, run),
        is_current=chosen == run.branch,
    )


def _versions(connection: sqlite3.Connection, run: RunView) -> list[tuple[float, str | None]]:
    moves = [(at, json.loads(data)) for at, data in connection.execute(MOVES, (run.number,))]
    first = moves[0][1]["from"] if moves else run.version
    return [(0.0, first), *((at, data["version"]) for at, data in moves)]


def branches_of(connection: sqlite3.Connection, run: RunView) -> list[BranchView]:
    """Give a run's branches, the first of which has no row."""
    first = BranchView(branch=1, parent=NO_PARENT, cut=1, reason="", created_at=run.created_at)
    names = ("branch", "parent", "cut", "reason", "created_at")
    rows = connection.execute(BRANCHES, (run.number,))
    return [first, *(BranchView(**dict(zip(names, row, strict=True))) for row in rows)]


def family_of(connection: sqlite3.Connection, run: RunView) -> Family:
    """Give what belongs together: a run's branches, its forks, and its origin."""
    forks = [_fork(connection, row, row[0]) for row in connection.execute(FORKS, (run.number, MOST_FORKS)).fetchall()]
    origin = connection.execute(ORIGIN, (run.number,)).fetchone()
    return Family(
        branches=tuple(branches_of(connection, run)),
        forks=tuple(forks),
        origin=None if origin is None else _fork(connection, origin, run.number),
    )


def _fork(connection: sqlite3.Connection, row: tuple[Any, ...], forked: int) -> ForkView:
    found = connection.execute(FORKED_AT, (forked,)).fetchone()
    said = json.loads(found[0]) if found else {"branch": 1, "node": 1}
    number, run_id, task, status, created_at = row
    return ForkView(
        number=number, id=run_id, task=task, status=status, created_at=created_at, branch=said["branch"], node=said["node"]
    )


def find_checkpoint(connection: sqlite3.Connection, run: RunView, branch: int, node: int) -> Found:
    """Give a checkpoint of a branch's lineage, with its outcome.

    Raises:
        UnknownCheckpointError: there is none.
    """
    owner = branch_of(connection, run.number, branch, node)
    if owner is None:
        raise UnknownCheckpointError(f"Run {run.id} of '{run.task}' has no node {node} on branch {branch}.")
    kind, ask, line, asked_at, recorded_at, value, error, abandoned, schema, child, child_id = connection.execute(
        VALUE, (run.number, owner, node)
    ).fetchone()
    return Found(
        branch=owner,
        node=node,
        kind=kind,
        ask=ask,
        line=line,
        asked_at=asked_at,
        recorded_at=recorded_at,
        value=loaded(connection, value),
        error=Failure.from_json(error) if error else None,
        is_abandoned=bool(abandoned),
        schema=schema,
        child=child,
        child_id=child_id,
    )
