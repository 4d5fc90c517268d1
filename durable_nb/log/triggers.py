"""Transactions on listeners: which tasks are started by which events.

Invariant: an event starts one run of a task at most. Its runs are written in the transaction that marks it matched, and an index
refuses a second one.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from durable_nb.log.records import AcceptedEvent

LISTENERS = """
SELECT task, pattern, declaration FROM listener WHERE is_wild = 0 AND pattern = :key AND floor < :seq
UNION ALL
SELECT task, pattern, declaration FROM listener WHERE is_wild = 1 AND floor < :seq ORDER BY task"""

PATTERNS = """
SELECT pattern FROM listener WHERE is_wild = 0 AND pattern = ?
UNION ALL
SELECT pattern FROM listener WHERE is_wild = 1"""

LISTEN = """
INSERT INTO listener (task, pattern, is_wild, declaration, floor)
VALUES (?, ?, ?, ?, (SELECT coalesce(max(seq), 0) FROM event))
ON CONFLICT (task, pattern) DO UPDATE SET declaration = excluded.declaration"""

HAS_DECLARED = """
SELECT 1 FROM listener WHERE task IN (SELECT value FROM json_each(?))
UNION ALL SELECT 1 FROM schedule
WHERE is_declared AND expression IS NOT NULL AND task IN (SELECT value FROM json_each(?)) LIMIT 1"""


@dataclass(frozen=True, slots=True)
class Listener:
    """A task that listens to an event, as it was declared last."""

    task: str
    declaration: str


def listen(connection: sqlite3.Connection, task: str, patterns: Sequence[str], declaration: str) -> None:
    """Have a task started by these events from now on, and by no others."""
    connection.execute(
        "DELETE FROM listener WHERE task = ? AND pattern NOT IN (SELECT value FROM json_each(?))",
        (task, json.dumps(list(patterns))),
    )
    for pattern in patterns:
        connection.execute(LISTEN, (task, pattern, "*" in pattern, declaration))


def has_declared(connection: sqlite3.Connection, tasks: Sequence[str]) -> bool:
    """Whether events or crons start one of these tasks by what was declared before."""
    names = json.dumps(list(tasks))
    return connection.execute(HAS_DECLARED, (names, names)).fetchone() is not None


def listeners_of(connection: sqlite3.Connection, event: AcceptedEvent) -> list[Listener]:
    """Give the tasks that listened to an event's key when it was accepted, each once."""
    rows = connection.execute(LISTENERS, {"key": event.key, "seq": event.seq}).fetchall()
    return list({task: Listener(task, text) for task, pattern, text in rows if fits(pattern, event.key)}.values())


def is_listened(connection: sqlite3.Connection, key: str) -> bool:
    """Whether some task listens to an event's key."""
    rows = connection.execute(PATTERNS, (key,)).fetchall()
    return any(fits(pattern, key) for (pattern,) in rows)


def fits(pattern: str, key: str) -> bool:
    """Whether an event's key fits a pattern, in which ``*`` stands for any characters, none included.

    >>> fits("user:*", "user:created"), fits("user:*", "users"), fits("*:created", "user:created")
    (True, False, True)
    """
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), key, re.DOTALL) is not None


def miss(connection: sqlite3.Connection, event: str, task: str, reason: str) -> None:
    """Take down why an event started no run of a task that listens to it."""
    connection.execute("INSERT OR IGNORE INTO near_miss VALUES (?, ?, ?)", (event, task, reason))
