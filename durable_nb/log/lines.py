"""What tasks said: the lines of a run's log, in the order in which they were said.

Invariant: lines are only ever appended; nothing about a run follows from them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

ADD = "INSERT INTO line (run, at, text, level, line) VALUES (?, ?, ?, ?, ?)"

NEWEST = "SELECT at, level, line, text FROM line WHERE run = ? ORDER BY seq DESC LIMIT ?"

COUNT = "SELECT count(*) FROM line WHERE run = ?"


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a run's log.

    Attributes:
        at: when it was said, UTC seconds.
        level: ``"info"`` for what was printed; else what the logging module calls it, in lower case.
        line: the line of the task's source that said it, where that is known.
    """

    at: float
    level: str
    line: int | None
    text: str


def add_lines(connection: sqlite3.Connection, lines: Iterable[tuple[int, Line]]) -> None:
    """Append lines, each with the number of its run."""
    connection.executemany(ADD, [(number, line.at, line.text, line.level, line.line) for number, line in lines])


def list_lines(connection: sqlite3.Connection, number: int, *, limit: int) -> list[Line]:
    """Give the newest lines of a run, the oldest of them first."""
    return [Line(*row) for row in connection.execute(NEWEST, (number, limit))][::-1]


def count_lines(connection: sqlite3.Connection, number: int) -> int:
    """Give how many lines a run's log has."""
    return int(connection.execute(COUNT, (number,)).fetchone()[0])
