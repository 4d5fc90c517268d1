"""What tasks said: the lines of a run's log, in the order in which they were said.

Invariant: lines are only ever appended; nothing about a run follows from them. They are written with `streams.write_said`.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

NEWEST = "SELECT at, attempt, level, line, text FROM line WHERE run = ? ORDER BY seq DESC LIMIT ?"

AFTER = "SELECT seq, at, attempt, level, line, text FROM line WHERE run = ? AND seq > ? ORDER BY seq LIMIT ?"

IS_ENDED = "SELECT finished_at IS NOT NULL FROM run WHERE number = ?"

COUNT = "SELECT count(*) FROM line WHERE run = ?"


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a run's log.

    Attributes:
        at: when it was said, UTC seconds since 1970.
        attempt: of the run, from 1.
        level: ``"INFO"`` for what was printed; else what `ctx.log` was told, or the logging module calls it.
        line: the line of the task's source that said it, where that is known.
    """

    at: float
    attempt: int
    level: str
    line: int | None
    text: str


def list_lines(connection: sqlite3.Connection, number: int, *, limit: int) -> list[Line]:
    """Give the newest lines of a run, the oldest of them first."""
    return [Line(*row) for row in connection.execute(NEWEST, (number, limit))][::-1]


def list_after(connection: sqlite3.Connection, number: int, after: int, *, limit: int) -> list[tuple[int, Line]]:
    """Give the oldest lines of a run that were said after a sequence number, each with its own."""
    return [(row[0], Line(*row[1:])) for row in connection.execute(AFTER, (number, after, limit))]


def list_further(connection: sqlite3.Connection, number: int, after: int, *, limit: int) -> tuple[list[tuple[int, Line]], bool]:
    """Give the lines after a sequence number, as `list_after`, and whether none will follow: the run has ended, these are all."""
    is_ended = bool(connection.execute(IS_ENDED, (number,)).fetchone()[0])  # first, so that no line is missed
    said = list_after(connection, number, after, limit=limit)
    return said, is_ended and len(said) < limit


def count_lines(connection: sqlite3.Connection, number: int) -> int:
    """Give how many lines a run's log has."""
    return int(connection.execute(COUNT, (number,)).fetchone()[0])
