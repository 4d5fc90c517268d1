"""Transactions on definitions: the code of tasks as the log keeps it. Text in, text out; nothing here executes any of it.

Invariants: a definition is never changed, only taken down again, which makes it the newest of its task; it is of no use
without a signature over it, which is the caller's to make and to verify.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, replace

from durable_nb.log.payloads import loaded

PUT = """
INSERT INTO definition (task, version, kind, options, body, home, signature, created_at)
VALUES (:task, :version, :kind, :options, :body, :home, :signature, :at)
ON CONFLICT (task, version, home) DO UPDATE
SET kind = excluded.kind, options = excluded.options, body = excluded.body, signature = excluded.signature,
    created_at = excluded.created_at"""

# SQLite takes the other columns of a group from the row that has its max().
NEWEST = """
SELECT task, version, kind, options, body, home, signature, max(created_at) FROM definition
WHERE :home IS NULL OR home = :home GROUP BY task, home ORDER BY task, home"""

FIND = """
SELECT task, version, kind, options, body, home, signature, created_at FROM definition
WHERE task = ? AND version = ? AND home = ?"""

# The versions that unfinished runs execute, and those to which they may fall back.
WANTED = """
SELECT task, version, kind, options, body, home, signature, created_at FROM definition
WHERE home = ? AND (task, version) IN (
    SELECT DISTINCT task, version FROM run INDEXED BY run_status WHERE status IN ('QUEUED', 'RUNNING') AND home = ?
    UNION
    SELECT run.task, json_extract(journal.data, '$.from') FROM run INDEXED BY run_status JOIN journal ON journal.run = run.number
    WHERE run.status IN ('QUEUED', 'RUNNING') AND run.home = ? AND journal.kind = 'moved')"""

# Of a version that several homes have, the one of the home that is asked for first.
FIND_ANYWHERE = """
SELECT task, version, kind, options, body, home, signature, created_at FROM definition
WHERE task = ? AND version = ? ORDER BY home = ? DESC LIMIT 1"""

UNFINISHED = """
SELECT task, count(*) FILTER (WHERE parent IS NULL), count(*) FROM run
WHERE status IN ('QUEUED', 'RUNNING') AND (:home IS NULL OR home = :home) GROUP BY task ORDER BY task"""

STATUSES = "SELECT status, count(*) FROM run GROUP BY status ORDER BY status"

UNFINISHED_RUNS = "SELECT number, id, task, version, input FROM run WHERE status IN ('QUEUED', 'RUNNING')"
UNFINISHED_HISTORIES = """
SELECT history.run, history.branch, run.id, run.task, run.version, history.input FROM history JOIN run ON run.number = history.run
WHERE run.status IN ('QUEUED', 'RUNNING')"""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDefinition:
    """A definition as the log has it. `options` and `body` are JSON text, exactly as they were signed."""

    task: str
    version: str
    kind: str
    options: str
    body: str
    home: str
    signature: bytes
    created_at: float


COLUMNS = tuple(StoredDefinition.__dataclass_fields__)


@dataclass(frozen=True, slots=True)
class UnfinishedRuns:
    """How many runs of a task have not ended: those that a person started, and all."""

    task: str
    roots: int
    runs: int


def put(connection: sqlite3.Connection, definition: StoredDefinition) -> None:
    """Take a definition down as the newest of its task and home."""
    values = {
        "task": definition.task,
        "version": definition.version,
        "kind": definition.kind,
        "options": definition.options,
        "body": definition.body,
        "home": definition.home,
        "signature": definition.signature,
        "at": definition.created_at,
    }
    connection.execute(PUT, values)


def list_newest(connection: sqlite3.Connection, home: str | None) -> list[StoredDefinition]:
    """Give the newest definition of every task of a home; of every home where that is None."""
    return [StoredDefinition(**dict(zip(COLUMNS, row, strict=True))) for row in connection.execute(NEWEST, {"home": home})]


def find(connection: sqlite3.Connection, task: str, version: str, home: str) -> StoredDefinition | None:
    """Give a version of a task's definition, or None."""
    row = connection.execute(FIND, (task, version, home)).fetchone()
    return None if row is None else StoredDefinition(**dict(zip(COLUMNS, row, strict=True)))


def find_anywhere(connection: sqlite3.Connection, task: str, version: str, home: str) -> StoredDefinition | None:
    """Give a version of a task's definition, of this home if it has it, else of another; or None."""
    row = connection.execute(FIND_ANYWHERE, (task, version, home)).fetchone()
    return None if row is None else StoredDefinition(**dict(zip(COLUMNS, row, strict=True)))


def list_wanted(connection: sqlite3.Connection, home: str) -> list[StoredDefinition]:
    """Give the definitions of a home that its unfinished runs execute, former versions among them."""
    return [StoredDefinition(**dict(zip(COLUMNS, row, strict=True))) for row in connection.execute(WANTED, (home, home, home))]


def list_unfinished(connection: sqlite3.Connection, home: str | None) -> list[UnfinishedRuns]:
    """Give, by task, how many runs of a home (of all, where that is None) have not ended."""
    return [UnfinishedRuns(*row) for row in connection.execute(UNFINISHED, {"home": home})]


def count_statuses(connection: sqlite3.Connection) -> dict[str, int]:
    """Give the number of runs by status."""
    return dict(connection.execute(STATUSES).fetchall())


def adopt(
    connection: sqlite3.Connection,
    shown: list[StoredDefinition],
    *,
    sign_definition: Callable[[StoredDefinition], bytes],
    sign_run: Callable[[str, str, str, str], bytes],
) -> None:
    """Sign what a person was shown and trusts, and the runs that have not ended; one transaction of the caller's.

    Args:
        shown: the definitions exactly as they were shown; what was written meanwhile stays unsigned.
        sign_run: is given id, task, version ('' for none) and input of a run.
    """
    for definition in shown:
        put(connection, replace(definition, signature=sign_definition(definition)))
    for number, run_id, task, version, value in connection.execute(UNFINISHED_RUNS).fetchall():
        signature = sign_run(run_id, task, version or "", loaded(connection, value) or "")
        connection.execute("UPDATE run SET signature = ? WHERE number = ?", (signature, number))
    for number, branch, run_id, task, version, value in connection.execute(UNFINISHED_HISTORIES).fetchall():
        signature = sign_run(run_id, task, version or "", loaded(connection, value) or "")
        connection.execute("UPDATE history SET signature = ? WHERE run = ? AND branch = ?", (signature, number, branch))
