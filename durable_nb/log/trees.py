"""Runs with all that belongs to them: whole trees, read, and removed when nobody needs them any more.

Invariants: a tree (a run without a parent, and everything below it) is removed only if every run of it has ended and no run
outside of it refers to it, which the removing transaction itself sees; a transaction removes some hundred runs, the latest of a
tree first, and leaves a log that is sound, so that a crash between two leaves nothing half; a payload or artifact goes
only in a transaction that sees that nothing refers to it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from durable_nb.log.records import CELL_KEY, ENDED
from durable_nb.tasks.artifacts import referred

PAGE = 500  # roots that are looked at in one read
BATCH = 200  # runs or events that one transaction removes
BATCH_BODIES = 64  # payloads and artifacts that one removes

ROOTS = """
SELECT number FROM run INDEXED BY run_status WHERE status IN (SELECT value FROM json_each(:statuses)) AND parent IS NULL
  AND finished_at < :before AND number > :after AND (:named OR key IS NULL OR key LIKE :cell)
ORDER BY number LIMIT :limit"""

# A tree whose runs have all ended, for long enough, and which no run outside of it refers to; else nothing.
TREE = """
WITH RECURSIVE tree (number) AS (
    SELECT number FROM run WHERE number = :root AND parent IS NULL
    UNION ALL SELECT run.number FROM tree JOIN run ON run.parent = tree.number)
SELECT tree.number FROM tree
WHERE NOT EXISTS (SELECT 1 FROM tree JOIN run USING (number)
                  WHERE run.status NOT IN ('COMPLETED', 'FAILED', 'CANCELLED') OR run.finished_at >= :before)
ORDER BY tree.number DESC"""

REFERRING = """
SELECT run FROM checkpoint WHERE child IN (SELECT value FROM json_each(:tree)) UNION
SELECT number FROM run WHERE forked_from IN (SELECT value FROM json_each(:tree))"""

KEYS_THAT_COUNT = """
SELECT 1 FROM idempotency
WHERE run IN (SELECT value FROM json_each(:tree)) AND (expires_at IS NULL OR expires_at > :at) LIMIT 1"""

# In this order nothing that is still there refers to what is gone.
REMOVE = (
    "UPDATE checkpoint SET child = NULL WHERE child IN (SELECT value FROM json_each(:runs))",
    "UPDATE schedule SET run = NULL WHERE run IN (SELECT value FROM json_each(:runs))",
    *(
        f"DELETE FROM {table} WHERE run IN (SELECT value FROM json_each(:runs))"  # noqa: S608  constants
        for table in (
            "chunk", "line", "wait", "question", "cancel", "checkpoint", "history", "branch", "event_run", "place", "idempotency",
            "journal",
        )
    ),
    "DELETE FROM run WHERE number IN (SELECT value FROM json_each(:runs))",
)  # fmt: skip

# Nobody can take them any more: considered by every wait and listener, of no run, before all that is unfinished.
OLD_EVENTS = """
SELECT seq, id FROM event WHERE matched = 1 AND accepted_at < :before
  AND seq <= coalesce((SELECT min(event_floor) FROM run INDEXED BY run_status WHERE status IN ('QUEUED', 'RUNNING')), seq)
  AND accepted_at < coalesce((SELECT min(since) FROM wait WHERE since IS NOT NULL AND matched_at IS NULL), accepted_at + 1)
  AND NOT EXISTS (SELECT 1 FROM event_run WHERE event_run.event = event.seq
                  AND run NOT IN (SELECT value FROM json_each(:gone)))
  AND NOT EXISTS (SELECT 1 FROM run WHERE run.event = event.id AND run.forked_from IS NULL
                  AND number NOT IN (SELECT value FROM json_each(:gone)))
ORDER BY seq LIMIT :limit"""

# Every place where a payload may stand that refers to a row of `payload` or `artifact`; each reads an index of just those.
KEPT = tuple(
    f"SELECT {column} FROM {table} WHERE typeof({column}) = 'blob' OR substr({column}, 1, 1) = ' '"  # noqa: S608  constants
    for table, column in (
        ("run", "input"),
        ("run", "output"),
        ("checkpoint", "outcome"),
        ("history", "input"),
        ("question", "text"),
        ("wait", "data"),
        ("event", "payload"),
        ("schedule", "input"),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Old:
    """What is to be removed: trees of these statuses, ended before `before` (UTC seconds).

    Attributes:
        named: those too whose key a person gave them.
    """

    before: float
    statuses: tuple[str, ...] = tuple(sorted(ENDED))
    named: bool = False


def next_free(
    connection: sqlite3.Connection, old: Old, at: float, *, after: int, gone: Collection[int]
) -> tuple[list[list[int]], int]:
    """Look at the next roots; give the trees of them that may go, the latest run of each first, and the last root, 0 at the end.

    Args:
        gone: runs that are taken for removed.
    """
    values = {"statuses": json.dumps(old.statuses), "before": old.before, "after": after, "named": old.named}
    rows = connection.execute(ROOTS, {**values, "cell": f"{CELL_KEY}%", "limit": PAGE})
    roots = [number for (number,) in rows]
    trees = [removable(connection, root, old, at, gone=gone) for root in roots if root not in gone]
    return [tree for tree in trees if tree], roots[-1] if len(roots) == PAGE else 0


def removable(connection: sqlite3.Connection, root: int, old: Old, at: float, *, gone: Collection[int] = ()) -> list[int]:
    """Give the runs of a tree, the latest first; none, where it may not be removed.

    Args:
        gone: runs that are taken for removed.
    """
    tree = [number for (number,) in connection.execute(TREE, {"root": root, "before": old.before})]
    values = {"tree": json.dumps(tree), "at": at}
    inside = {*tree, *gone}
    if any(number not in inside for (number,) in connection.execute(REFERRING, values)):
        return []
    return [] if connection.execute(KEYS_THAT_COUNT, values).fetchone() else tree


def remove_some(connection: sqlite3.Connection, roots: Sequence[int], old: Old, at: float) -> tuple[int, int]:
    """Remove runs of the first trees, as many as a transaction may; give how many, and how many trees were dealt with."""
    removed = 0
    for done, root in enumerate(roots):
        tree = removable(connection, root, old, at)
        room = BATCH - removed
        _remove(connection, tree[:room])
        removed += len(tree[:room])
        if len(tree) > room:
            return removed, done
        if removed == BATCH:
            return removed, done + 1
    return removed, len(roots)


def _remove(connection: sqlite3.Connection, runs: Sequence[int]) -> None:
    if runs:
        for statement in REMOVE:
            connection.execute(statement, {"runs": json.dumps(runs)} if ":runs" in statement else {})


def count_old_events(connection: sqlite3.Connection, before: float, gone: Collection[int]) -> int:
    """Count the events that nobody can take any more, when the runs `gone` are removed."""
    return len(connection.execute(OLD_EVENTS, {"before": before, "gone": json.dumps([*gone]), "limit": -1}).fetchall())


def remove_events(connection: sqlite3.Connection, before: float) -> int:
    """Remove events that nobody can take any more, as many as a transaction may; give how many."""
    events = connection.execute(OLD_EVENTS, {"before": before, "gone": "[]", "limit": BATCH}).fetchall()
    connection.executemany("DELETE FROM near_miss WHERE event = ?", [(event,) for _, event in events])
    connection.executemany("DELETE FROM event WHERE seq = ?", [(seq,) for seq, _ in events])
    return len(events)


def unreferred(connection: sqlite3.Connection) -> tuple[list[bytes], list[bytes]]:
    """Give the hashes of the payloads and of the artifacts that nothing refers to."""
    payloads, artifacts = set[bytes](), set[bytes]()
    for query in KEPT:
        for (value,) in connection.execute(query):
            if isinstance(value, bytes):
                payloads.add(value)
            else:
                artifacts |= _digests(value)
    spare = []
    for digest, body in connection.execute("SELECT hash, CASE substr(body, 1, 1) WHEN ' ' THEN body END FROM payload"):
        if digest not in payloads:
            spare.append(digest)
        elif body is not None:
            artifacts |= _digests(body)
    return spare, [digest for (digest,) in connection.execute("SELECT hash FROM artifact") if digest not in artifacts]


def _digests(text: str) -> set[bytes]:
    return {bytes.fromhex(digest) for digest in referred(text)}


def remove_unreferred(connection: sqlite3.Connection) -> int:
    """Remove payloads and artifacts that nothing refers to, as many as a transaction may; give how many."""
    payloads, artifacts = unreferred(connection)
    connection.executemany("DELETE FROM payload WHERE hash = ?", _keys(payloads[:BATCH_BODIES]))
    connection.executemany("DELETE FROM artifact WHERE hash = ?", _keys(artifacts[:BATCH_BODIES]))
    return len(payloads[:BATCH_BODIES]) + len(artifacts[:BATCH_BODIES])


def _keys(hashes: Iterable[bytes]) -> list[tuple[bytes]]:
    return [(digest,) for digest in hashes]
