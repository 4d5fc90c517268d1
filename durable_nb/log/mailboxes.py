"""Reads on mailboxes: the next event of a key that a run has not taken yet.

Invariant: what a run has taken is told by its checkpoints alone, so a mailbox costs no row of its own; only where the run is
continued as new, its history takes down how far each had come.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable

from durable_nb.log.checkpoints import first_branch

NEXT = "SELECT seq, payload FROM event WHERE key = ? AND seq > ? ORDER BY seq LIMIT 1"
NEXT_IN_SCOPE = "SELECT seq, payload FROM event WHERE key = ? AND scope = ? AND seq > ? ORDER BY seq LIMIT 1"

Position = tuple[str, str | None, int, int]  # key, scope, which mailbox of these (from 0), last event taken


def next_event(connection: sqlite3.Connection, key: str, scope: str | None, after: int) -> tuple[int, str | bytes] | None:
    """Give sequence number and payload column of the first event after another; with a scope, of that scope."""
    if scope is None:
        return connection.execute(NEXT, (key, after)).fetchone()  # type: ignore[no-any-return]
    return connection.execute(NEXT_IN_SCOPE, (key, scope, after)).fetchone()  # type: ignore[no-any-return]


def start_of(connection: sqlite3.Connection, run: int, branch: int, key: str, scope: str | None, which: int) -> int:
    """Give the event after which a mailbox begins: the last that it took in an earlier history, else the last before the run."""
    for position in positions_of(connection, run, branch):
        if position[:3] == (key, scope, which):
            return position[3]
    return int(connection.execute("SELECT event_floor FROM run WHERE number = ?", (run,)).fetchone()[0])


def positions_of(connection: sqlite3.Connection, run: int, branch: int) -> list[Position]:
    """Give how far the run's mailboxes had come when the history of a branch began."""
    first = first_branch(connection, run, branch)
    row = connection.execute("SELECT mailboxes FROM history WHERE run = ? AND branch = ?", (run, first)).fetchone()
    return [(key, scope, which, seq) for key, scope, which, seq in json.loads(row[0])] if row else []


def merged(before: Iterable[Position], now: Iterable[Position]) -> str:
    """Give positions as JSON text, the later ones in place of the earlier."""
    last = {position[:3]: position[3] for position in (*before, *now)}
    return json.dumps([[*mailbox, seq] for mailbox, seq in last.items()], ensure_ascii=False)
