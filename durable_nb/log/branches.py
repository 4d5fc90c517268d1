"""Branches: what a run keeps when it is taken up again, and what its chance is drawn from.

Invariants: a node that a branch inherits is either satisfied or will be (a child of it lives, or its waits are open); any
other is dropped, that is, asked afresh. A seed depends on the position in the code and the branch's lineage alone, so that a
draw is the same whether what follows it was recorded already or not.
"""

from __future__ import annotations

import json
import sqlite3

from durable_nb.log.checkpoints import branch_of, lineage
from durable_nb.log.records import NEVER, Cut

CLOSED = -1.0  # the `matched_at` of a condition whose run has ended
UNSATISFIED = """
SELECT node, child, abandoned, (SELECT cancelled_at FROM run WHERE number = child) FROM checkpoint
WHERE run = ? AND branch = ? AND node < ? AND seq IS NULL ORDER BY node"""
UNDONE = """
SELECT node FROM checkpoint
WHERE run = :run AND branch = :branch AND node < :below AND seq >= :seq AND error IS NOT NULL
  AND NOT (abandoned BETWEEN 1 AND :seq - 1)
  AND NOT (abandoned = :seq AND coalesce((SELECT cancelled_at FROM run WHERE number = child), 0))"""
LAST_UNDONE_FROM = """
SELECT data ->> 'undone_from' FROM journal WHERE run = ? AND kind IN ('retried', 'replayed', 'reset') ORDER BY seq DESC LIMIT 1"""
OPENED_AGAIN = "UPDATE wait SET matched_at = NULL WHERE run = ? AND branch = ? AND node = ? AND matched_at = -1.0"

Seeds = list[tuple[int, str]]  # from which node on, which seed


def take_up(connection: sqlite3.Connection, number: int, parent: int, cut: Cut | None, *, reason: str, at: float) -> int:
    """Give the branch on which a run goes on: a new one, which inherits `parent` below the cut, or `parent` itself.

    Without a cut everything is kept, but for what nothing can satisfy any more (a memo in flight, what the code gave up).
    """
    cut = cut or Cut(None)
    limit = last_node(connection, number, parent) + 1 if cut.limit is None else cut.limit
    dropped = {*cut.dropped, *_undone(connection, number, parent, limit, cut)}
    kept, dead = _open_nodes(connection, number, parent, limit, dropped, cut.undone_from)
    branch = parent
    if cut.limit is not None or dropped or dead:
        branch = open_branch(connection, number, parent, limit, sorted({*dropped, *dead}), reason, at)
    for place in kept:
        connection.execute(OPENED_AGAIN, (number, *place))
    return branch


def begin_attempt(connection: sqlite3.Connection, number: int, branch: int, *, at: float) -> int:
    """Give the branch of an attempt that begins now: failures that came after the last one was left are asked afresh too."""
    (undone_from,) = connection.execute(LAST_UNDONE_FROM, (number,)).fetchone() or (None,)
    cut = Cut(None, undone_from=NEVER if undone_from is None else undone_from)
    if not _undone(connection, number, branch, NEVER, cut):
        return branch
    return take_up(connection, number, branch, cut, reason="retry", at=at)


def _undone(connection: sqlite3.Connection, number: int, branch: int, limit: int, cut: Cut) -> set[int]:
    """Give the nodes of a branch below a limit that failed in what is undone.

    But for those that the code had given up before, or that it had cancelled by then: it will give them up again.
    """
    if cut.undone_from == NEVER:
        return set()
    found = set[int]()
    for ancestor, below, left in lineage(connection, number, branch):
        values = {"run": number, "branch": ancestor, "below": min(below, limit), "seq": cut.undone_from}
        rows = connection.execute(UNDONE, values)
        found |= {node for (node,) in rows if node not in left}
    return found


def open_branch(
    connection: sqlite3.Connection, number: int, parent: int, cut: int, dropped: list[int], reason: str, at: float
) -> int:
    """Open a new branch that inherits `parent` below a cut, but for the dropped nodes; give its number."""
    (newest,) = connection.execute("SELECT coalesce(max(branch), 1) FROM branch WHERE run = ?", (number,)).fetchone()
    branch = int(newest) + 1
    row = (number, branch, parent, cut, json.dumps(dropped), reason, at)
    connection.execute("INSERT INTO branch VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    for ancestor, node in connection.execute("SELECT DISTINCT branch, node FROM wait WHERE run = ?", (number,)).fetchall():
        if branch_of(connection, number, branch, node) != ancestor:
            connection.execute("DELETE FROM wait WHERE run = ? AND branch = ? AND node = ?", (number, ancestor, node))
    return branch


def _open_nodes(
    connection: sqlite3.Connection, number: int, branch: int, limit: int, dropped: set[int], undone_from: int
) -> tuple[list[tuple[int, int]], list[int]]:
    """Give what a branch has not satisfied below a limit: (branch, node) of what will be, and the nodes that nothing can.

    A child that was given up and cancelled in what is undone is one of these: the code will wait for it again.
    """
    kept, dead = list[tuple[int, int]](), list[int]()
    for ancestor, below, left in lineage(connection, number, branch):
        rows = connection.execute(UNSATISFIED, (number, ancestor, min(below, limit))).fetchall()
        for node, child, abandoned, cancelled_at in rows:
            if node in left or node in dropped:
                continue
            waits = connection.execute("SELECT 1 FROM wait WHERE run = ? AND branch = ? AND node = ?", (number, ancestor, node))
            is_kept_child = child is not None and not (abandoned > undone_from and cancelled_at is not None)
            if is_kept_child or waits.fetchone():
                kept.append((ancestor, node))
            else:
                dead.append(node)
    return kept, dead


def inherited(connection: sqlite3.Connection, number: int, branch: int) -> list[tuple[tuple[int, int], int | None]]:
    """Give the ((branch, node), child) of a branch's lineage, in order of node."""
    found: dict[int, tuple[tuple[int, int], int | None]] = {}
    for ancestor, limit, dropped in lineage(connection, number, branch):
        rows = connection.execute(
            "SELECT node, child FROM checkpoint WHERE run = ? AND branch = ? AND node < ?", (number, ancestor, limit)
        )
        for node, child in rows:
            if node not in dropped:
                found.setdefault(node, ((ancestor, node), child))
    return [found[node] for node in sorted(found)]


def last_node(connection: sqlite3.Connection, number: int, branch: int) -> int:
    """Give the last node that a branch's lineage has asked, 0 if none."""
    nodes = [0]
    for ancestor, limit, dropped in lineage(connection, number, branch):
        rows = connection.execute(
            "SELECT node FROM checkpoint WHERE run = ? AND branch = ? AND node < ? ORDER BY node DESC LIMIT ?",
            (number, ancestor, limit, len(dropped) + 1),
        )
        nodes += [node for (node,) in rows if node not in dropped]
    return max(nodes)


def seeds_of(connection: sqlite3.Connection, number: int, branch: int) -> Seeds:
    """Give what the chance of a branch is drawn from: seeds, each with the first node that it is for."""
    run_id, own = connection.execute("SELECT id, seeds FROM run WHERE number = ?", (number,)).fetchone()
    chain, limits = zip(*((ancestor, limit) for ancestor, limit, _ in lineage(connection, number, branch)), strict=True)
    is_own = own and chain[-1] == 1
    seeds: Seeds = [(node, seed) for node, seed in json.loads(own)] if is_own else [(1, f"{run_id}/{chain[-1]}")]
    for child, cut in zip(reversed(chain[:-1]), reversed(limits[1:]), strict=True):
        seeds = [*cut_seeds(seeds, cut), (cut, f"{run_id}/{child}")]
    return seeds


def cut_seeds(seeds: Seeds, cut: int) -> Seeds:
    """Give the seeds for what lies below a node."""
    return [(node, seed) for node, seed in seeds if node < cut]
