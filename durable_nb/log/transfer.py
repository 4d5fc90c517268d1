"""Rows on their way out of a log and into another: the tables in an order in which each refers to earlier ones only.

Invariant: a payload leaves with all that it refers to, large texts and artifacts, and without what is redacted.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any

from durable_nb.errors import LogError, NotALogError
from durable_nb.log.payloads import INLINE_BYTES
from durable_nb.log.redacting import Redaction
from durable_nb.tasks.artifacts import MARK, referred

Row = dict[str, Any]

TABLES = (
    "payload", "artifact", "worker", "definition", "run", "branch", "history", "checkpoint", "cancel", "question", "wait",
    "event", "event_run", "listener", "near_miss", "crowd", "place", "spend", "lineup", "freed", "pause", "idempotency",
    "schedule",
    "journal", "line", "chunk",
)  # fmt: skip
PAYLOADS: Mapping[str, tuple[str, ...]] = {
    "run": ("input", "output"),
    "history": ("input",),
    "checkpoint": ("outcome",),
    "question": ("text",),
    "wait": ("data",),
    "event": ("payload",),
    "schedule": ("input",),
}
LOOPS = (
    "SELECT 1 FROM run WHERE parent >= number OR forked_from >= number",
    "SELECT 1 FROM branch WHERE parent >= branch",
)
OBJECTS: Mapping[str, tuple[str, ...]] = {"run": ("metadata",), "event": ("metadata",), "schedule": ("metadata",)}  # JSON inside


def refuse_tangled(connection: sqlite3.Connection) -> None:
    """Refuse rows that no log has, on which readers would go round for ever, or find nothing.

    Raises:
        NotALogError: a run or branch descends from itself, or a row refers to one that is not there.
    """
    for query in LOOPS:
        if connection.execute(query).fetchone():
            raise NotALogError("It was made by hand: in it a run or a branch descends from itself.")
    if connection.execute("PRAGMA foreign_key_check").fetchone():
        raise NotALogError("It is damaged, or was made by hand: a row of it refers to one that is not there.")


def rows_of(connection: sqlite3.Connection, query: str, values: Mapping[str, Any]) -> Iterator[Row]:
    """Give the rows of a query, by column."""
    cursor = connection.execute(query, values)
    names = [column[0] for column in cursor.description]
    for row in cursor:
        yield dict(zip(names, row, strict=True))


def insert(connection: sqlite3.Connection, table: str, row: Mapping[str, Any]) -> None:
    """Insert a row; its columns were checked by `columns_of`."""
    names = ", ".join(row)
    marks = ", ".join(f":{name}" for name in row)
    connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", row)  # noqa: S608  names of our own schema


def columns_of(connection: sqlite3.Connection, table: str) -> tuple[str, ...]:
    """Give a table's columns."""
    return tuple(row[1] for row in connection.execute(f"PRAGMA table_info({table})"))  # one of TABLES


class Payloads:
    """The payloads that a copy takes along.

    Args:
        source: where large texts and artifacts are. target: where they go; None, where the copy has no file yet.
    """

    def __init__(self, source: sqlite3.Connection, target: sqlite3.Connection | None, redaction: Redaction) -> None:
        self._source = source
        self._target = target
        self._redaction = redaction

    def taken(self, table: str, row: Row) -> Row:
        """Give a row as it goes into the copy, whose payloads are there already.

        Raises:
            LogError: the log is damaged: something that the row refers to is missing.
        """
        taken = dict(row)
        for column in PAYLOADS.get(table, ()):
            if taken[column] is not None:
                taken[column] = self._payload(taken[column])
        for column in OBJECTS.get(table, ()):
            taken[column] = self._redaction.text(taken[column])
        return taken

    def _payload(self, value: Any) -> str | bytes:
        if isinstance(value, bytes):
            row = self._source.execute("SELECT body FROM payload WHERE hash = ?", (value,)).fetchone()
            if row is None:
                raise LogError(f"The log is damaged: a payload of it ({value.hex()[:12]}…) is missing. Restore a copy.")
            text = str(row[0])
        else:
            text = str(value)
        text = self._redaction.text(text)
        if self._target is None:
            return text
        if text.startswith(MARK):
            for digest in map(bytes.fromhex, referred(text)):
                self._take_artifact(digest)
        if not isinstance(value, bytes) and len(text.encode()) <= INLINE_BYTES:
            return text
        from durable_nb.log.payloads import stored

        return stored(self._target, text) or ""

    def _take_artifact(self, digest: bytes) -> None:
        target = self._target
        if target is None or target.execute("SELECT 1 FROM artifact WHERE hash = ?", (digest,)).fetchone():
            return
        row = self._source.execute("SELECT body FROM artifact WHERE hash = ?", (digest,)).fetchone()
        if row is None:
            raise LogError(f"The log is damaged: an artifact of it ({digest.hex()[:12]}…) is missing. Restore a copy.")
        target.execute("INSERT INTO artifact VALUES (?, ?)", (digest, row[0]))
