"""Reads: whether the log holds work for a worker, now or later."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

# Whatever is not wholly at rest: a run that could be claimed, an owner's run, an outcome whose time has come.
READY = """
SELECT EXISTS (
    SELECT 1 FROM run INDEXED BY run_ready
    WHERE ready_at <= :now AND gate > 0
      AND (task IN (SELECT value FROM json_each(:defined))
           OR (home = :home AND task IN (SELECT value FROM json_each(:restored))))
      AND (status = 'RUNNING' OR task NOT IN (SELECT task FROM pause)))"""

DUE = "SELECT EXISTS (SELECT 1 FROM wait INDEXED BY wait_due WHERE due_at <= :now AND matched_at IS NULL)"

UNMATCHED = "SELECT EXISTS (SELECT 1 FROM event INDEXED BY event_pending WHERE matched = 0)"

UNFINISHED = """
SELECT EXISTS (
    SELECT 1 FROM run INDEXED BY run_status
    WHERE status IN ('QUEUED', 'RUNNING') AND blocked_reason IS NULL
      AND (task IN (SELECT value FROM json_each(:defined))
           OR (home = :home AND task IN (SELECT value FROM json_each(:restored)))))"""


def has_work(connection: sqlite3.Connection, *, home: str, defined: Sequence[str], restored: Sequence[str], at: float) -> bool:
    """Whether something could be done at once: a run of these tasks is ready, a wait is due, an event is to be matched."""
    return any(_is_so(connection, sql, home, defined, restored, at) for sql in (READY, DUE, UNMATCHED))


def has_unfinished(
    connection: sqlite3.Connection, *, home: str, defined: Sequence[str], restored: Sequence[str], at: float
) -> bool:
    """Whether a run of these tasks has not ended, and is not blocked until a person acts."""
    return _is_so(connection, UNFINISHED, home, defined, restored, at)


def _is_so(
    connection: sqlite3.Connection, sql: str, home: str, defined: Sequence[str], restored: Sequence[str], at: float
) -> bool:
    values = {"now": at, "home": home, "defined": json.dumps(list(defined)), "restored": json.dumps(list(restored))}
    return bool(connection.execute(sql, values).fetchone()[0])
