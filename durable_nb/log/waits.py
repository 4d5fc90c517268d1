"""Transactions on waits and events.

Invariants: an event is accepted when it is stored; it then reaches every wait whose `floor` lies below it, batch by batch,
and a crash between batches loses nothing, for `matched` is set last; a condition keeps its first match, since events of one
key are matched in order of acceptance.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from durable_nb.log.checkpoints import complete
from durable_nb.log.journal import journal
from durable_nb.log.payloads import loaded, stored
from durable_nb.log.records import AcceptedEvent, Completion, Failure, NewEvent, NewWait, Outcome
from durable_nb.log.triggers import is_listened

INSERT_WAIT = """
INSERT INTO wait (run, branch, node, item, group_number, kind, name, due_at, key, scope, expression, schema, floor, since,
                  filter_fields, filter_value)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""

KEEP_CONDITIONS = "UPDATE checkpoint SET conditions = ? WHERE run = ? AND branch = ? AND node = ?"

# The fields that the filters of a key compare: a jump in the index from each to the next.
FIELDS = """
WITH RECURSIVE compared (fields) AS (
    SELECT min(filter_fields) FROM wait INDEXED BY wait_key
    WHERE key = :key AND matched_at IS NULL AND filter_fields >= :fields
    UNION ALL
    SELECT (SELECT min(filter_fields) FROM wait INDEXED BY wait_key
            WHERE key = :key AND matched_at IS NULL AND filter_fields > compared.fields)
    FROM compared WHERE compared.fields IS NOT NULL
)
SELECT fields FROM compared WHERE fields IS NOT NULL"""

CANDIDATES = """
SELECT run, branch, node, item, expression, schema, filter_value FROM wait INDEXED BY wait_key
WHERE key = :key AND filter_fields = :fields AND matched_at IS NULL
  AND (filter_value, run, branch, node, item) > (:value, :run, :branch, :node, :item) AND filter_value <= :last
  AND floor < :seq AND (scope IS NULL OR scope = :scope)
ORDER BY filter_value, run, branch, node, item LIMIT :limit"""

KEEP_ERROR = "UPDATE wait SET filter_error = ? WHERE run = ? AND branch = ? AND node = ? AND item = ?"

IS_AWAITED = "SELECT EXISTS (SELECT 1 FROM wait INDEXED BY wait_key WHERE key = ? AND matched_at IS NULL)"

SATISFY = """
UPDATE wait SET matched_at = ?, data = ?, event = ?
WHERE run = ? AND branch = ? AND node = ? AND item = ? AND matched_at IS NULL"""

# By the index of pending events, else all that were ever accepted would be read.
NEXT_PENDING = """
SELECT seq, id, key, scope, payload, metadata, accepted_at, priority FROM event INDEXED BY event_pending
WHERE matched = 0 AND key = ? AND seq > ? ORDER BY seq LIMIT 1"""

# The key of an event that nobody has matched for long.
LEFT = "SELECT key FROM event INDEXED BY event_pending WHERE matched = 0 AND accepted_at <= ? LIMIT 1"

PENDING_BEFORE = "SELECT 1 FROM event INDEXED BY event_pending WHERE matched = 0 AND key = ? AND seq < ? LIMIT 1"

DUE = "SELECT run, branch, node, item FROM wait WHERE due_at <= ? AND matched_at IS NULL ORDER BY due_at LIMIT ?"

Place = tuple[int, int, int, int]  # run, branch, node, item
PLACE = ("run", "branch", "node", "item")
BEFORE_ALL: Place = (0, 0, 0, 0)
Spot = tuple[str, bytes, Place]  # in the index of waits by key: fields, value, place
FIRST_SPOT: Spot = ("", b"", BEFORE_ALL)
ABOVE_ALL = b"\xff" * 17  # of any hash
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
    rows = [
        (run, branch, node, *condition, wait.since, wait.filter_fields, wait.filter_value)
        for condition, wait in zip(conditions, waits, strict=True)
    ]
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
    is_first = _take_down(connection, place, data, at=at, event=event)
    return _conclude(connection, place, at=at, event=event) if is_first else None


def _take_down(connection: sqlite3.Connection, place: Place, data: str | bytes | None, *, at: float, event: int | None) -> bool:
    """Give whether it is the condition's first match, and the condition is still there."""
    return bool(connection.execute(SATISFY, (at, data, event, *place)).rowcount)


def _conclude(connection: sqlite3.Connection, place: Place, *, at: float, event: int | None) -> Completion | None:
    run, branch, node, _ = place
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


def accept(connection: sqlite3.Connection, event: NewEvent, *, at: float) -> bool:
    """Store an event; from this commit on it reaches every wait that stands. Give whether it is to be matched.

    Where no wait and no listener of its key stands it is matched with that: whoever comes later begins above it.
    """
    is_wanted = connection.execute(IS_AWAITED, (event.key,)).fetchone()[0] or is_listened(connection, event.key)
    connection.execute(
        "INSERT INTO event (id, key, scope, payload, metadata, priority, accepted_at, matched) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            event.id,
            event.key,
            event.scope,
            stored(connection, event.payload),
            event.metadata,
            event.priority,
            at,
            int(not is_wanted),
        ),
    )
    return bool(is_wanted)


def next_pending(connection: sqlite3.Connection, key: str, after: int) -> AcceptedEvent | None:
    """Give the first event of a key above a sequence number that is not wholly matched yet."""
    row = connection.execute(NEXT_PENDING, (key, after)).fetchone()
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


def key_left(connection: sqlite3.Connection, *, before: float) -> str | None:
    """Give the key of an event that was accepted before a time and is not wholly matched yet."""
    row = connection.execute(LEFT, (before,)).fetchone()
    return row[0] if row else None


def candidates(
    connection: sqlite3.Connection, event: AcceptedEvent, value_of: Callable[[str], bytes | None], after: Spot, limit: int
) -> tuple[list[Candidate], Spot | None]:
    """Give the next open conditions that an event may satisfy, in order of place, and the spot after which more may stand.

    Args:
        value_of: the hash of the event's values of some fields: conditions that compare them with others are left out. None
            where it cannot be told: then none of them is.
    """
    found: list[Candidate] = []
    start, value, place = after
    for (fields,) in connection.execute(FIELDS, {"key": event.key, "fields": start}).fetchall():
        told = value_of(fields) if fields else b""
        if fields != start:
            value, place = told or b"", BEFORE_ALL
        names = {"key": event.key, "fields": fields, "value": value, "last": ABOVE_ALL if told is None else told}
        names |= {"seq": event.seq, "scope": event.scope, "limit": limit - len(found)}
        rows = connection.execute(CANDIDATES, names | dict(zip(PLACE, place, strict=True))).fetchall()
        found += [Candidate((row[0], row[1], row[2], row[3]), row[4], row[5]) for row in rows]
        if len(found) == limit:
            return sorted(found, key=lambda candidate: candidate.place), (fields, rows[-1][6], found[-1].place)
    return sorted(found, key=lambda candidate: candidate.place), None


@dataclass(slots=True)
class Matched:
    """What an event did to a batch of candidates: those that it satisfied or advanced, and those whose filter failed on it."""

    places: list[Place] = field(default_factory=list)
    errors: list[tuple[Place, str]] = field(default_factory=list)
    completions: list[Completion] = field(default_factory=list)


def match(
    connection: sqlite3.Connection,
    event: AcceptedEvent,
    places: Sequence[Place],
    errors: Sequence[tuple[Place, str]],
    *,
    is_last: bool,
    at: float,
    start: Callable[[sqlite3.Connection], None] | None = None,
) -> Matched:
    """Record what one batch of candidates gave. Does nothing where another process was faster, or must go first.

    Conditions that an earlier event has satisfied meanwhile are passed over.

    Args:
        start: starts the runs of tasks that listen to the event; called with the last batch.
    """
    matched = Matched()
    is_matched, data = connection.execute("SELECT matched, payload FROM event WHERE seq = ?", (event.seq,)).fetchone()
    if is_matched or connection.execute(PENDING_BEFORE, (event.key, event.seq)).fetchone():
        return matched
    for place, message in errors:
        if connection.execute(KEEP_ERROR, (message, *place)).rowcount:
            matched.errors.append((place, message))
    for place in places:
        if not _take_down(connection, place, data, at=at, event=event.seq):
            continue
        matched.places.append(place)
        completion = _conclude(connection, place, at=at, event=event.seq)
        if completion is not None:
            matched.completions.append(completion)
    connection.executemany("INSERT OR IGNORE INTO event_run VALUES (?, ?)", [(place[0], event.seq) for place in matched.places])
    if is_last:
        if start is not None:
            start(connection)
        connection.execute("UPDATE event SET matched = 1 WHERE seq = ?", (event.seq,))
    return matched


def next_due(connection: sqlite3.Connection, *, since: float) -> float | None:
    """Give when the next thing is due: a sleep, a run's deadline, a rate's free units, or a run that is ready after `since`."""
    rows = (
        connection.execute("SELECT min(due_at) FROM crowd WHERE due_at IS NOT NULL").fetchone(),
        connection.execute("SELECT min(due_at) FROM wait WHERE due_at IS NOT NULL AND matched_at IS NULL").fetchone(),
        connection.execute("SELECT min(ready_at) FROM run WHERE ready_at > ?", (since,)).fetchone(),
        connection.execute("SELECT min(due_at) FROM run WHERE due_at IS NOT NULL").fetchone(),
    )
    return min((row[0] for row in rows if row[0] is not None), default=None)
