"""Reads: whether the log holds work for a worker, now or later."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from durable_nb.log import queue
from durable_nb.log.serving import SERVED, Served

DUE = "SELECT EXISTS (SELECT 1 FROM wait INDEXED BY wait_due WHERE due_at <= :now AND matched_at IS NULL)"

UNMATCHED = "SELECT EXISTS (SELECT 1 FROM event INDEXED BY event_pending WHERE matched = 0)"

UNFINISHED = f"""
SELECT EXISTS (
    SELECT 1 FROM run INDEXED BY run_status
    WHERE status IN ('QUEUED', 'RUNNING') AND blocked_reason IS NULL AND {SERVED})"""  # noqa: S608  a constant

STARTS = """
SELECT EXISTS (SELECT 1 FROM schedule WHERE due_at IS NOT NULL AND task IN (SELECT value FROM json_each(:tasks)))
    OR EXISTS (SELECT 1 FROM listener WHERE task IN (SELECT value FROM json_each(:tasks)))"""


def has_work(connection: sqlite3.Connection, served: Served, *, at: float) -> bool:
    """Whether something could be done at once: a run that is served is ready, a wait is due, an event is to be matched."""
    if queue.is_work(connection, served, at=at):
        return True
    return any(connection.execute(sql, {"now": at}).fetchone()[0] for sql in (DUE, UNMATCHED))


def has_unfinished(connection: sqlite3.Connection, served: Served) -> bool:
    """Whether a run that is served has not ended, and is not blocked until a person acts."""
    return bool(connection.execute(UNFINISHED, served.values()).fetchone()[0])


def has_starts(connection: sqlite3.Connection, tasks: Sequence[str]) -> bool:
    """Whether crons, schedules or events may still start runs of these tasks."""
    return bool(connection.execute(STARTS, {"tasks": json.dumps(list(tasks))}).fetchone()[0])
