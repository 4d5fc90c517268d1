"""Transactions on waits that count events from before they were registered.

Invariant: such a wait keeps its `since` until somebody has looked at every event of its window or it is satisfied, so a crash in
between loses nothing; events above its floor reach it as they reach any other wait, being later ones.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from durable_nb.log.payloads import loaded
from durable_nb.log.records import AcceptedEvent, Completion
from durable_nb.log.waits import KEEP_ERROR, Candidate, satisfy

NEXT_WAIT = """
SELECT run, branch, node, item, expression, schema, key, scope, floor, since FROM wait INDEXED BY wait_back
WHERE since IS NOT NULL AND matched_at IS NULL ORDER BY run, branch, node, item LIMIT 1"""

EARLIER = """
SELECT seq, id, key, scope, payload, metadata, accepted_at FROM event
WHERE key = ? AND scope = ? AND seq < ? AND accepted_at >= ? ORDER BY seq DESC LIMIT ?"""

END = "UPDATE wait SET since = NULL WHERE run = ? AND branch = ? AND node = ? AND item = ?"


@dataclass(frozen=True, slots=True)
class BackWait:
    """A wait whose window was not looked at yet."""

    candidate: Candidate
    key: str
    scope: str
    floor: int
    since: float


def next_wait(connection: sqlite3.Connection) -> BackWait | None:
    """Give a wait that is to be looked after, or None."""
    row = connection.execute(NEXT_WAIT).fetchone()
    if row is None:
        return None
    return BackWait(Candidate((row[0], row[1], row[2], row[3]), row[4], row[5]), *row[6:])


def events_before(connection: sqlite3.Connection, back: BackWait, seq: int, limit: int) -> list[AcceptedEvent]:
    """Give the events of a wait's window below a sequence number, the latest first."""
    rows = connection.execute(EARLIER, (back.key, back.scope, seq, back.since, limit)).fetchall()
    return [
        AcceptedEvent(
            seq=row[0],
            id=row[1],
            key=row[2],
            scope=row[3],
            payload=loaded(connection, row[4]) or "null",
            metadata=row[5],
            accepted_at=row[6],
        )
        for row in rows
    ]


def end(
    connection: sqlite3.Connection, back: BackWait, found: AcceptedEvent | None, error: str | None, *, at: float
) -> list[Completion]:
    """Satisfy the wait by the event that was found, or take down that its window holds none."""
    place = back.candidate.place
    if error is not None:
        connection.execute(KEEP_ERROR, (error, *place))
    if found is None:
        connection.execute(END, place)
        return []
    (data,) = connection.execute("SELECT payload FROM event WHERE seq = ?", (found.seq,)).fetchone()
    completion = satisfy(connection, place, data, at=at, event=found.seq)
    return [] if completion is None else [completion]
