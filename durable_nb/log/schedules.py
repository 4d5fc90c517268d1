"""Transactions on schedules: runs to come, at every tick of a cron expression or once.

Invariant: a tick is dealt with once over all processes, since whoever does moves the schedule on in the same transaction and
shows the tick that it had read (`move`).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from durable_nb.log.payloads import loaded, stored

COLUMNS = (
    "id, task, name, expression, timezone, catch_up, is_declared, input, metadata, priority, home, created_at, due_at, fired_at, "
    "(SELECT run.id FROM run WHERE run.number = schedule.run), error"
)

DUE = f"""
SELECT {COLUMNS} FROM schedule
WHERE due_at <= :now AND (task IN (SELECT value FROM json_each(:defined))
                          OR (home = :home AND task IN (SELECT value FROM json_each(:restored))))
ORDER BY due_at LIMIT :limit"""  # noqa: S608  a constant

NEXT_DUE = """
SELECT due_at FROM schedule WHERE due_at IS NOT NULL
AND (task IN (SELECT value FROM json_each(:defined)) OR (home = :home AND task IN (SELECT value FROM json_each(:restored))))
ORDER BY due_at LIMIT 1"""

LIST = f"""
SELECT {COLUMNS} FROM schedule
WHERE (expression IS NOT NULL) = :is_cron AND (:task IS NULL OR task = :task) ORDER BY created_at, id"""  # noqa: S608

FIND = f"SELECT {COLUMNS} FROM schedule WHERE id = ?"  # noqa: S608

INSERT = """
INSERT INTO schedule (id, task, name, expression, timezone, catch_up, is_declared, input, metadata, priority, home, created_at,
                      due_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSchedule:
    """A cron, or a run to come. Input and metadata are JSON text, times UTC seconds.

    Attributes:
        expression: of a cron; None for a single run.
        is_declared: by the task's own `on_crons`.
    """

    id: str
    task: str
    name: str
    input: str
    home: str
    created_at: float
    due_at: float | None
    expression: str | None = None
    timezone: str = "UTC"
    catch_up: str = "skip"
    is_declared: bool = False
    metadata: str = "{}"
    priority: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleView:
    """A cron or scheduled run as the log has it: input and metadata as JSON text, times in UTC seconds.

    Attributes:
        due_at: the next tick; None where there is none any more.
        fired_at: the last tick that was dealt with.
        run_id: the run that it started last.
        error: why its last tick started none.
    """

    id: str
    task: str
    name: str
    expression: str | None
    timezone: str
    catch_up: str
    is_declared: bool
    input: str
    metadata: str
    priority: int | None
    home: str
    created_at: float
    due_at: float | None
    fired_at: float | None
    run_id: str | None
    error: str | None


def put(connection: sqlite3.Connection, new: NewSchedule) -> None:
    """Write a schedule; a cron takes the place of the one of its task and name."""
    if new.expression is not None:
        connection.execute(
            "DELETE FROM schedule WHERE task = ? AND name = ? AND is_declared = ? AND expression IS NOT NULL",
            (new.task, new.name, new.is_declared),
        )
    connection.execute(
        INSERT,
        (
            new.id,
            new.task,
            new.name,
            new.expression,
            new.timezone,
            new.catch_up,
            new.is_declared,
            stored(connection, new.input),
            new.metadata,
            new.priority,
            new.home,
            new.created_at,
            new.due_at,
        ),
    )


def declare(connection: sqlite3.Connection, task: str, crons: Sequence[NewSchedule]) -> None:
    """Have a task's own crons be these; those that are there already keep their ticks."""
    names = json.dumps([cron.name for cron in crons])
    connection.execute(
        "DELETE FROM schedule WHERE task = ? AND is_declared AND name NOT IN (SELECT value FROM json_each(?))", (task, names)
    )
    for cron in crons:
        known = connection.execute(
            "UPDATE schedule SET catch_up = ?, input = ?, home = ? WHERE task = ? AND name = ? AND is_declared",
            (cron.catch_up, stored(connection, cron.input), cron.home, task, cron.name),
        )
        if not known.rowcount:
            put(connection, cron)


def move(connection: sqlite3.Connection, schedule: ScheduleView, *, due_at: float | None, fired_at: float) -> bool:
    """Go on to the next tick; refuse (False) where another process has dealt with this one, or it was deleted or moved."""
    return bool(
        connection.execute(
            "UPDATE schedule SET due_at = ?, fired_at = ? WHERE id = ? AND due_at = ?",
            (due_at, fired_at, schedule.id, schedule.due_at),
        ).rowcount
    )


def note(connection: sqlite3.Connection, schedule: str, *, run: int | None, error: str | None) -> None:
    """Take down what came of a tick."""
    connection.execute("UPDATE schedule SET run = coalesce(?, run), error = ? WHERE id = ?", (run, error, schedule))


def reschedule(connection: sqlite3.Connection, schedule: str, due_at: float) -> bool:
    """Move a single run that has not started; give whether it was there."""
    return bool(
        connection.execute(
            "UPDATE schedule SET due_at = ? WHERE id = ? AND expression IS NULL AND due_at IS NOT NULL", (due_at, schedule)
        ).rowcount
    )


def delete(connection: sqlite3.Connection, schedule: str, *, is_cron: bool) -> bool:
    """Forget a schedule; give whether it was there."""
    return bool(
        connection.execute("DELETE FROM schedule WHERE id = ? AND (expression IS NOT NULL) = ?", (schedule, is_cron)).rowcount
    )


def due(
    connection: sqlite3.Connection, *, home: str, defined: Sequence[str], restored: Sequence[str], at: float, limit: int
) -> list[ScheduleView]:
    """Give the schedules that are due and whose task this worker serves."""
    names = {"home": home, "defined": json.dumps(list(defined)), "restored": json.dumps(list(restored))}
    return [_view(connection, row) for row in connection.execute(DUE, {"now": at, "limit": limit, **names}).fetchall()]


def next_due(connection: sqlite3.Connection, *, home: str, defined: Sequence[str], restored: Sequence[str]) -> float | None:
    """Give when the next schedule is due whose task this worker serves."""
    names = {"home": home, "defined": json.dumps(list(defined)), "restored": json.dumps(list(restored))}
    row = connection.execute(NEXT_DUE, names).fetchone()
    return None if row is None else float(row[0])


def find(connection: sqlite3.Connection, schedule: str) -> ScheduleView | None:
    """Give a schedule by its id."""
    row = connection.execute(FIND, (schedule,)).fetchone()
    return None if row is None else _view(connection, row)


def list_schedules(connection: sqlite3.Connection, *, is_cron: bool, task: str | None) -> list[ScheduleView]:
    """Give crons, or single runs, the oldest first."""
    return [_view(connection, row) for row in connection.execute(LIST, {"is_cron": is_cron, "task": task}).fetchall()]


def set_back(connection: sqlite3.Connection, *, at: float) -> list[ScheduleView]:
    """Give the crons whose last tick lies more than a day in the future: the clock was wrong when it fired."""
    rows = connection.execute(f"SELECT {COLUMNS} FROM schedule WHERE expression IS NOT NULL AND fired_at > ?", (at + 86_400.0,))  # noqa: S608
    return [_view(connection, row) for row in rows.fetchall()]


def _view(connection: sqlite3.Connection, row: tuple[Any, ...]) -> ScheduleView:
    values = dict(zip(ScheduleView.__dataclass_fields__, row, strict=True))
    return ScheduleView(**{**values, "is_declared": bool(values["is_declared"]), "input": loaded(connection, values["input"])})
