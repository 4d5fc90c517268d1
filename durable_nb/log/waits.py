"""Transactions on waits and events.

Invariants: an event is accepted when it is stored; it then reaches every wait whose `floor` lies below it, batch by batch,
and a crash between batches loses nothing, for `matched` is set last; a condition keeps its first match, since events of one
key are matched in order of acceptance.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from durable_nb.log.checkpoints import complete
from durable_nb.log.journal import journal
from durable_nb.log.payloads import loaded, stored
from durable_nb.log.records import AcceptedEvent, Completion, Failure, NewEvent, NewWait, Outcome

INSERT_WAIT = """
INSERT INTO wait (run, branch, node, item, group_number, kind, name, due_at, key, scope, expression, schema, floor, since)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""

KEEP_CONDITIONS = "UPDATE checkpoint SET conditions = ? WHERE run = ? AND branch = ? AND node = ?"

CANDIDATES = """
SELECT run, branch, node, item, expression, schema FROM wait
WHERE key = :key AND matched_at IS NULL AND floor < :seq AND (scope IS NULL OR scope = :scope)
  AND (run, branch, node, item) > (:run, :branch, :node, :item)
ORDER BY run, branch, node, item LIMIT :limit"""

SATISFY = """
UPDATE wait SET matched_at = ?, data = ?, event = ?
WHERE run = ? AND branch = ? AND node = ? AND item = ? AND matched_at IS NULL"""

# By the index of pending events, else all that were ever accepted would be read.
NEXT_PENDING = """
SELECT seq, id, key, scope, payload, metadata, accepted_at, priority FROM event INDEXED BY event_pending
WHERE matched = 0 AND (:key IS NULL OR key = :key) AND accepted_at <= :before ORDER BY seq LIMIT 1"""

PENDING_BEFORE = "SELECT 1 FROM event INDEXED BY event_pending WHERE matched = 0 AND key = ? AND seq < ? LIMIT 1"

DUE = "SELECT run, branch, node, item FROM wait WHERE due_at <= ? AND matched_at IS NULL ORDER BY due_at LIMIT ?"

Place = tuple[int, int, int, int]  # run, branch, node, item
BEFORE_ALL: Place = (0, 0, 0, 0)
NOBODY_ANSWERED = Failure("AskTimeoutError", "nobody answered in time")


@dataclass(frozen=True, slots=True)
class Candidate:
    """An open condition that an event may satisfy, if its filter agrees."""

    place: Place
    expression: str | None
    schema: str | None

    @property
    def is_filtered(self) -> bool:
        """Whether an event of its key and scope may still not match."""
        return self.expression is not None or self.schema is not None


def register(
    connection: sqlite3.Connection, run: int, branch: int, node: int, waits: Sequence[NewWait], *, at: float
) -> Completion | None:
    """Open the conditions of a checkpoint; those that are due already are satisfied at once."""
    (floor,) = connection.execute("SELECT coalesce(max(seq), 0) FROM event").fetchone()
    conditions = [
        (wait.item, wait.group, wait.kind, wait.name, wait.due_at, wait.key, wait.scope, wait.expression, wait.schema, floor)
        for wait in waits
    ]
    rows = [(run, branch, node, *condition, wait.since) for condition, wait in zip(conditions, waits, strict=True)]
    connection.executemany(INSERT_WAIT, rows)
    connection.execute(KEEP_CONDITIONS, (json.dumps(conditions, ensure_ascii=False), run, branch, node))
    completion = None
    for wait in waits:
        if wait.due_at is not None and wait.due_at <= at:
            completion = satisfy(connection, (run, branch, node, wait.item), None, at=at) or completion
    return completion


def fire_due(connection: sqlite3.Connection, *, at: float, limit: int) -> list[Completion]:
    """Satisfy up to `limit` sleeps that are due, earliest first."""
    places = connection.execute(DUE, (at, limit)).fetchall()
    completions = (satisfy(connection, place, None, at=at) for place in places)
    return [completion for completion in completions if completion is not None]


def satisfy(
    connection: sqlite3.Connection, place: Place, data: str | bytes | None, *, at: float, event: int | None = None
) -> Completion | None:
    """Take down a condition's first match; when every group of its wait has one, record the checkpoint's outcome.

    Args:
        data: the payload column of the event, the answer to a question, None for a sleep.
        event: the sequence number of the event that matched.
    """
    run, branch, node, _ = place
    changed = connection.execute(SATISFY, (at, data, event, *place))
    if not changed.rowcount:
        return None
    rows = connection.execute(
        "SELECT group_number, name, kind, event, matched_at, data FROM wait "
        "WHERE run = ? AND branch = ? AND node = ? ORDER BY item",
        (run, branch, node),
    ).fetchall()
    matched = [row for row in rows if row[4] is not None]
    if {row[0] for row in rows} != {row[0] for row in matched}:
        journal(connection, run, at, "matched", {"branch": branch, "node": node, "item": place[3], "event": event})
        return None
    kind, asked_at = connection.execute(
        "SELECT kind, asked_at FROM checkpoint WHERE run = ? AND branch = ? AND node = ?", (run, branch, node)
    ).fetchone()
    outcome = _outcome(connection, kind, asked_at, matched)
    connection.execute("DELETE FROM wait WHERE run = ? AND branch = ? AND node = ?", (run, branch, node))
    return complete(connection, run, branch, node, outcome, at=at)


def _outcome(
    connection: sqlite3.Connection, kind: str, asked_at: float, matched: list[tuple[int, str, str, int | None, float, str]]
) -> Outcome:
    """Give the result: the elapsed seconds of a sleep, the payload of an event, or all data by readable key.

    What a mailbox takes has the event's sequence number with it; a question that nobody answered has failed.
    """
    if kind == "take":
        return Outcome(taken(matched[0][3] or 0, loaded(connection, matched[0][5]) or "null"))
    if kind == "ask":
        answer = next((data for _, _, item_kind, _, _, data in matched if item_kind == "ask"), None)
        return Outcome(loaded(connection, answer)) if answer is not None else Outcome(failure=NOBODY_ANSWERED)
    texts: dict[str, list[str]] = {}
    for _, name, item_kind, _, matched_at, data in matched:
        text = loaded(connection, data) if item_kind == "event" else json.dumps({"elapsed": matched_at - asked_at})
        texts.setdefault(name, []).append(text or "null")
    if kind in ("sleep", "event"):
        return Outcome(next(iter(texts.values()))[0])
    body = ",".join(f"{json.dumps(name, ensure_ascii=False)}:[{','.join(values)}]" for name, values in texts.items())
    return Outcome(f'{{"CREATE":{{{body}}}}}')


def taken(seq: int, payload: str) -> str:
    """Give the outcome of a mailbox's take: the payload, with the place of its event in the log."""
    return f'{{"seq":{seq},"payload":{payload}}}'


def accept(connection: sqlite3.Connection, event: NewEvent, *, at: float) -> int:
    """Store an event; from this commit on it reaches every wait that stands. Give its sequence number."""
    cursor = connection.execute(
        "INSERT INTO event (id, key, scope, payload, metadata, priority, accepted_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (event.id, event.key, event.scope, stored(connection, event.payload), event.metadata, event.priority, at),
    )
    assert cursor.lastrowid is not None  # noqa: S101  an INSERT of one row has it
    return cursor.lastrowid


def next_pending(connection: sqlite3.Connection, *, key: str | None, before: float) -> AcceptedEvent | None:
    """Give the first event (of a key) that was accepted before a time and is not wholly matched yet."""
    row = connection.execute(NEXT_PENDING, {"key": key, "before": before}).fetchone()
    if row is None:
        return None
    return AcceptedEvent(
        seq=row[0],
        id=row[1],
        key=row[2],
        scope=row[3],
        payload=loaded(connection, row[4]) or "null",
        metadata=row[5],
        accepted_at=row[6],
        priority=row[7],
    )


def candidates(connection: sqlite3.Connection, event: AcceptedEvent, after: Place, limit: int) -> list[Candidate]:
    """Give the next open conditions of an event's key and scope that were registered before it."""
    values = dict(zip(("run", "branch", "node", "item"), after, strict=True))
    rows = connection.execute(CANDIDATES, {"key": event.key, "seq": event.seq, "scope": event.scope, "limit": limit, **values})
    return [Candidate((row[0], row[1], row[2], row[3]), row[4], row[5]) for row in rows]


def match(
    connection: sqlite3.Connection,
    event: AcceptedEvent,
    places: Sequence[Place],
    errors: Sequence[tuple[Place, str]],
    *,
    is_last: bool,
    at: float,
    start: Callable[[sqlite3.Connection], None] = lambda connection: None,
) -> list[Completion]:
    """Record what one batch of candidates gave. Does nothing where another process was faster, or must go first.

    Args:
        start: starts the runs of tasks that listen to the event; called with the last batch.
    """
    (is_matched,) = connection.execute("SELECT matched FROM event WHERE seq = ?", (event.seq,)).fetchone()
    earlier = connection.execute(PENDING_BEFORE, (event.key, event.seq)).fetchone()
    if is_matched or earlier:
        return []
    (data,) = connection.execute("SELECT payload FROM event WHERE seq = ?", (event.seq,)).fetchone()
    for place, message in errors:
        connection.execute(
            "UPDATE wait SET filter_error = ? WHERE run = ? AND branch = ? AND node = ? AND item = ?", (message, *place)
        )
    completions = [satisfy(connection, place, data, at=at, event=event.seq) for place in places]
    connection.executemany("INSERT OR IGNORE INTO event_run VALUES (?, ?)", [(place[0], event.seq) for place in places])
    if is_last:
        start(connection)
        connection.execute("UPDATE event SET matched = 1 WHERE seq = ?", (event.seq,))
    return [completion for completion in completions if completion is not None]


def next_due(connection: sqlite3.Connection, *, since: float) -> float | None:
    """Give when the next thing is due: a sleep, a run's deadline, a rate's free units, or a run that is ready after `since`."""
    rows = (
        connection.execute("SELECT min(due_at) FROM crowd WHERE due_at IS NOT NULL").fetchone(),
        connection.execute("SELECT min(due_at) FROM wait WHERE due_at IS NOT NULL AND matched_at IS NULL").fetchone(),
        connection.execute("SELECT min(ready_at) FROM run WHERE ready_at > ?", (since,)).fetchone(),
        connection.execute("SELECT min(due_at) FROM run WHERE due_at IS NOT NULL").fetchone(),
    )
    return min((row[0] for row in rows if row[0] is not None), default=None)
